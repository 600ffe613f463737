#include "launch/training/step_trace.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "io/report/trace.h"
#include "launch/session/agreement.h"

namespace foretoken {

namespace {

Stream& stream_of_waiting(Session& session) {
  session.synchronize();
  session.stream().synchronize();
  session.groups().world.barrier();
  return session.stream();
}

/// Example: "87.2 % (rank 0) to 93.9 % (rank 1)", the smallest and the largest share of the ranks; "100.0 %"
/// for one rank.
std::string range(Communicator& world, double share) {
  std::vector<double> shares(static_cast<std::size_t>(world.size()));
  shares[static_cast<std::size_t>(world.rank())] = share;
  world.all_reduce(tensor_over(std::span(shares), {world.size()}));
  const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
  if (world.size() == 1) return fmt::format("{:.1f} %", 100 * share);
  return fmt::format("{:.1f} % (rank {}) to {:.1f} % (rank {})", 100 * *least, least - shares.begin(),
                     100 * *most, most - shares.begin());
}

}  // namespace

StepTrace::StepTrace(Session& session) : session_(session), timeline_(stream_of_waiting(session)) {
  session_.stream().set_timeline(&timeline_);
}

StepTrace::~StepTrace() {
  session_.stream().set_timeline(nullptr);
}

std::string StepTrace::write(const std::filesystem::path& file, std::int64_t step) {
  session_.synchronize();
  const std::vector<TimelineSpan> spans = timeline_.spans();
  Communicator& world = session_.groups().world;
  const std::string name =
      fmt::format("rank {}: pp{} dp{}", world.rank(), session_.groups().pp_rank, session_.groups().dp_rank);
  const std::vector<std::string> events = gather_texts(world, trace_events(world.rank(), name, spans));
  std::string message;
  if (session_.is_root()) try {
      write_trace(file, events);
    } catch (const DataError& error) {
      message = error.what();
    }
  if (message = first_error(world, message); !message.empty()) throw DataError("{}", message);

  const TraceOverlap overlap = overlap_of(spans);
  const double hidden = overlap.communication > 0 ? overlap.hidden / overlap.communication : 0;
  std::string text = fmt::format("step {}: {:.1f} ms, compute {}", step, 1e3 * overlap.length,
                                 range(world, overlap.compute / overlap.length));
  // Communication between CPU ranks is not recorded, so its time is 0 there.
  double longest = overlap.communication;
  world.all_reduce(tensor_over(std::span(&longest, 1), {1}), ReduceOp::max);
  if (longest > 0)
    text += fmt::format(", communication at most {:.1f} ms, {} of it under compute", 1e3 * longest,
                        range(world, hidden));
  return broadcast_text(world, text + "; " + file.string());
}

}  // namespace foretoken
