#pragma once
// The time of one microbatch on one pipeline stage, or in a part of a stage. A plain struct.

namespace foretoken {

/// All members have the same unit, which the caller chooses. In a schedule with whole backwards one action
/// takes backward(), the time of both halves.
struct StageDurations {
  double forward = 0;
  double backward_input = 0;
  double backward_weight = 0;

  double backward() const { return backward_input + backward_weight; }
  double total() const { return forward + backward(); }

  StageDurations& operator+=(const StageDurations& other) {
    forward += other.forward;
    backward_input += other.backward_input;
    backward_weight += other.backward_weight;
    return *this;
  }
  friend StageDurations operator+(StageDurations a, const StageDurations& b) { return a += b; }
  friend StageDurations operator*(double factor, const StageDurations& a) {
    return {factor * a.forward, factor * a.backward_input, factor * a.backward_weight};
  }
  friend bool operator==(const StageDurations&, const StageDurations&) = default;
};

}  // namespace foretoken
