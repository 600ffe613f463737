#include "launch/commands/ranks.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

#include "launch/commands/flight.h"
#include "launch/console/failure.h"

namespace foretoken {

namespace {

/// A rank's host and process id, as bytes of fixed size.
struct Address {
  std::int32_t pid = 0;
  std::array<char, 252> host{};
};

/// Host and process of every rank. Collective.
std::vector<RankIdentity> exchange_identities(MpiCommunicator& world) {
  std::vector<Address> addresses(static_cast<std::size_t>(world.size()));
  Address& own = addresses[static_cast<std::size_t>(world.rank())];
  own.pid = static_cast<std::int32_t>(getpid());
  gethostname(own.host.data(), own.host.size() - 1);
  constexpr auto bytes = static_cast<std::int64_t>(sizeof(Address));
  const Tensor all{addresses.data(), DType::u8, DeviceKind::cpu, {bytes * world.size()}};
  world.all_gather(all.flat(bytes * world.rank(), bytes), all);
  std::vector<RankIdentity> identities;
  for (const Address& address : addresses)
    identities.push_back({.pid = address.pid, .host = address.host.data(), .label = {}});
  return identities;
}

}  // namespace

ExitCode run_on_ranks(const std::filesystem::path& flight_folder, Seconds start_up,
                      const std::function<ExitCode(MpiCommunicator& world)>& body) {
  MpiWorld world({.wait = start_up}, Watchdog::Options{.folder = flight_folder, .log = say_as_rank});
  name_rank(world.rank(), fmt::format("rank {}", world.rank()));
  try {
    MpiCommunicator communicator(world);
    if (world.watchdog()) world.watchdog()->set_identities(exchange_identities(communicator));
    return body(communicator);
  } catch (...) {
    const Failure failure = current_failure();
    if (failure.code == ExitCode::peer && world.watchdog())
      world.watchdog()->abandon(failure.message);
    else
      report(failure);
    if (world.size() == 1)
      return failure.code;  // no peer waits for this rank, and MPI would print its own message about an abort
    world.abort(failure.code);
  }
}

ExitCode run_on_ranks(const std::function<ExitCode(MpiCommunicator& world)>& body) {
  return run_on_ranks(flight_folder_without_run(), MpiLimits{}.wait, body);
}

}  // namespace foretoken
