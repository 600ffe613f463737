#pragma once
// The layout of --help: two columns that fit a terminal (launch/console/columns.h).

#include <CLI/CLI.hpp>

namespace foretoken {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace foretoken
