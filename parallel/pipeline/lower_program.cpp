#include "parallel/pipeline/lower_program.h"

#include <algorithm>
#include <map>
#include <utility>

#include "parallel/pipeline/action_table.h"
#include "parallel/pipeline/prerequisites.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// A receive, its send, and the index of the compute action before which the receive is posted.
struct Posting {
  Action receive;
  Action send;
  std::size_t before;
};

using Channel = std::pair<int, ActionKind>;  // (sending rank, kind of receive)
using Postings = std::map<Channel, std::vector<Posting>>;

/// The receives of one rank, each posted one compute action ahead of the action that needs it.
Postings wanted_postings(const std::vector<Action>& actions, const PipelineShape& shape) {
  Postings postings;
  for (std::size_t i = 0; i < actions.size(); ++i)
    for (const Action& needed : prerequisites(actions[i], shape))
      if (is_receive(needed.kind)) {
        const Action send = prerequisites(needed, shape).front();
        postings[{shape.rank_of(send.stage), needed.kind}].push_back({needed, send, i == 0 ? 0 : i - 1});
      }
  return postings;
}

/// The sends among `needed` that carry the result of `done`.
std::vector<Action> sends_after(const Action& done, const ActionTable<char>& needed,
                                const PipelineShape& shape) {
  std::vector<Action> sends;
  for (const ActionKind kind : {ActionKind::send_activation, ActionKind::send_gradient}) {
    const Action send{kind, done.stage, done.microbatch};
    if (needed[send] && fulfils(done, prerequisites(send, shape).front())) sends.push_back(send);
  }
  return sends;
}

/// Puts the receives of a channel in the order of their sends. A receive is then posted no later than the
/// receives after it.
void follow_send_order(std::vector<Posting>& postings, const ActionTable<int>& send_order) {
  for (const Posting& posting : postings)
    if (send_order[posting.send] < 0)
      throw UsageError("pipeline program: {} needs a message, but no action produces {}",
                       to_string(posting.receive), to_string(posting.send));
  std::sort(postings.begin(), postings.end(),
            [&](const Posting& a, const Posting& b) { return send_order[a.send] < send_order[b.send]; });
  for (std::size_t i = postings.size(); i-- > 1;)
    postings[i - 1].before = std::min(postings[i - 1].before, postings[i].before);
}

}  // namespace

Program lower_program(const Program& compute) {
  const PipelineShape& shape = compute.shape;
  std::vector<Postings> postings;
  ActionTable<char> is_needed(shape, 0);  // by send
  for (const std::vector<Action>& actions : compute.ranks) {
    for (const Action& action : actions) {
      if (!is_compute(action.kind))
        throw UsageError(
            "pipeline program: {}: expected only compute actions, because lowering adds the messages",
            to_string(action));
      if (!is_needed.covers(action))
        throw UsageError("pipeline program: {}: out of range for {}", to_string(action), to_string(shape));
    }
    for (const auto& [channel, wanted] : postings.emplace_back(wanted_postings(actions, shape)))
      for (const Posting& posting : wanted) is_needed[posting.send] = 1;
  }

  ActionTable<int> send_order(shape, -1);  // sends of one rank have ascending numbers; −1: not sent
  int sends = 0;
  for (const std::vector<Action>& actions : compute.ranks)
    for (const Action& done : actions)
      for (const Action& send : sends_after(done, is_needed, shape)) send_order[send] = sends++;

  Program lowered{shape, {}};
  for (std::size_t rank = 0; rank < compute.ranks.size(); ++rank) {
    std::vector<Posting> posted;
    for (auto& [channel, wanted] : postings[rank]) {
      follow_send_order(wanted, send_order);
      posted.insert(posted.end(), wanted.begin(), wanted.end());
    }
    std::stable_sort(posted.begin(), posted.end(),
                     [](const Posting& a, const Posting& b) { return a.before < b.before; });

    std::vector<Action>& out = lowered.ranks.emplace_back();
    auto next = posted.begin();
    for (std::size_t i = 0; i < compute.ranks[rank].size(); ++i) {
      for (; next != posted.end() && next->before == i; ++next) out.push_back(next->receive);
      const Action& action = compute.ranks[rank][i];
      out.push_back(action);
      for (const Action& send : sends_after(action, is_needed, shape)) out.push_back(send);
    }
  }
  return lowered;
}

}  // namespace foretoken
