#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include "io/datasets/dataset_examination.h"

int main(int argc, char** argv) {
  if (const std::optional<int> code = foretoken::run_examination(argc, argv)) return *code;
  return Catch::Session().run(argc, argv);
}
