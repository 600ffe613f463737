#include "launch/report/report.h"

#include <fmt/format.h>

#include "io/files/durable_file.h"
#include "launch/console/console.h"
#include "launch/report/report_page.h"

namespace foretoken {

int write_run_page(const ReportArguments& arguments) {
  Console console(true);
  std::vector<ReportedRun> runs{read_run(arguments.run)};
  for (const std::string& path : arguments.compare) runs.push_back(read_run(path));
  for (const ReportedRun& run : runs)
    for (const std::string& what : run.missing) console.warn(fmt::format("{}: {}", run.path, what));
  write_durably(arguments.output, run_page(runs));
  console.line(fmt::format("report     {}", arguments.output));
  return 0;
}

}  // namespace foretoken
