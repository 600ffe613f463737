// Cases that must fail: CTest runs each alone and expects a failure with the right message.
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "tests/support/multi_rank.h"

using namespace foretoken;

TEST_CASE("an assertion fails on rank 1", "[.must-fail][ranks2][failing-assertion]") {
  CHECK(multi_rank::world().rank() != 1);
}

TEST_CASE("rank 1 throws while rank 0 waits for it", "[.must-fail][ranks2][throwing-rank]") {
  if (multi_rank::world().rank() == 1) throw std::runtime_error("thrown by the test");
  multi_rank::world().barrier();
}

TEST_CASE("rank 1 dies of a signal", "[.must-fail][ranks2][dying-rank]") {
  if (multi_rank::world().rank() == 1) std::raise(SIGSEGV);
  multi_rank::world().barrier();
}

TEST_CASE("rank 1 leaves", "[.must-fail][ranks2][leaving-rank]") {
  if (multi_rank::world().rank() == 1) std::_Exit(0);
  multi_rank::world().barrier();
}

TEST_CASE("rank 1 hangs", "[.must-fail][ranks2][hanging-rank]") {
  multi_rank::world().world().limits().wait = Seconds{1};
  if (multi_rank::world().rank() == 1) std::this_thread::sleep_for(std::chrono::minutes(10));
  multi_rank::world().barrier();
}
