#include "launch/step_trace.h"

#include <fmt/format.h>

#include "io/trace.h"
#include "launch/agreement.h"

namespace foretoken {

namespace {

Stream& stream_of_waiting(Session& session) {
  session.synchronize();
  session.stream().synchronize();
  session.groups().world.barrier();
  return session.stream();
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
  std::string fault;
  if (session_.is_root()) try {
      write_trace(file, events);
    } catch (const DataError& error) {
      fault = error.what();
    }
  if (fault = first_fault(world, fault); !fault.empty()) throw DataError("{}", fault);

  const TraceOverlap overlap = overlap_of(spans);
  // Between CPU ranks communication is not recorded: there compute is what counts.
  const double hidden = overlap.communication > 0 ? overlap.hidden / overlap.communication
                                                  : 1 + overlap.compute / overlap.length;
  double least = hidden;
  world.all_reduce(tensor_over(std::span(&least, 1), {1}), ReduceOp::min);
  std::string text = fmt::format("compute {:.1f} % of {:.1f} ms", 100 * overlap.compute / overlap.length,
                                 1e3 * overlap.length);
  if (overlap.communication > 0)
    text += fmt::format(", communication {:.1f} ms, {:.1f} % of it under compute",
                        1e3 * overlap.communication, 100 * hidden);
  if (world.size() > 1) text += fmt::format(" (rank {}, where that is least)", world.rank());
  // The first rank that has the least tells it.
  std::int64_t teller = hidden == least ? world.rank() : world.size();
  world.all_reduce(tensor_over(std::span(&teller, 1), {1}), ReduceOp::min);
  return fmt::format("step {}: {}; {}", step, broadcast_text(world, text, static_cast<int>(teller)),
                     file.string());
}

}  // namespace foretoken
