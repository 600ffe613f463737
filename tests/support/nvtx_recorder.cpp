// Stands in for a profiler: NVTX loads it if NVTX_INJECTION64_PATH names it. At the end of the process it
// writes one line for each name of a range to the file NVTX_RECORD, "2 0F0" for two ranges named 0F0, and
// "open N" for the ranges that were not closed.

#include <cstdlib>
#include <fstream>
#include <map>
#include <nvtx3/nvToolsExt.h>
#include <string>

namespace {

struct Record {
  std::map<std::string, int> ranges;
  int open = 0;
};

Record& record() {
  static Record instance;
  return instance;
}

int push(const char* name) {
  ++record().ranges[name];
  return record().open++;
}

int pop() {
  return --record().open;
}

void write() {
  std::ofstream file(std::getenv("NVTX_RECORD"), std::ios::app);
  for (const auto& [name, count] : record().ranges) file << count << ' ' << name << '\n';
  file << "open " << record().open << '\n';
}

}  // namespace

// The name is that of NVTX's interface for profilers (nvtx3/nvtxDetail/nvtxTypes.h).
extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t exported) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(exported(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) == 0)
    return 0;
  *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  record();
  std::atexit(write);
  return 1;
}
