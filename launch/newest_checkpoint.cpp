#include "launch/newest_checkpoint.h"

#include "io/checkpoint_directory.h"
#include "runtime/error.h"

namespace foretoken {

Checkpoint newest_readable(const std::string& path) {
  std::string first_fault;
  for (const auto& directory : checkpoints_at(path)) try {
      return Checkpoint::open(directory);
    } catch (const DataError& error) {
      if (first_fault.empty()) first_fault = error.what();
    }
  throw DataError("{}", first_fault);
}

}  // namespace foretoken
