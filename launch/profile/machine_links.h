#pragma once
// The links of a machine, from the file that `foretoken doctor --save` writes.

#include <optional>
#include <string>
#include <string_view>

#include "parallel/comm/link.h"

namespace foretoken {

struct MachineLinks {
  std::optional<Link> inside;   // a node; empty if the measured job had one rank per node
  std::optional<Link> between;  // nodes; empty if it had one node
};

/// `name` is the file, for messages. Throws a DataError if it is no such file or a value is out of range.
MachineLinks machine_links_from(std::string_view json, const std::string& name);

}  // namespace foretoken
