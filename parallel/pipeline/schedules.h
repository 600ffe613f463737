#pragma once
// Generators of pipeline programs: pure functions from a shape to the compute actions of every rank. Every
// generator accepts any number of microbatches from 1 and runs the backwards of a stage in microbatch order,
// so all schedules sum weight gradients in the same order.
//
// F, B, I, W below are the times of a whole rank for one microbatch. The bubble is a rank's idle time in a
// step of M ≥ pp microbatches if messages cost nothing.

#include <string>
#include <string_view>
#include <vector>

#include "parallel/pipeline/program.h"

namespace foretoken {

/// All forwards, then all backwards, stage after stage. Bubble (pp−1)(F+B)/v; every stage holds all M
/// microbatches. Huang et al., "GPipe", NeurIPS 2019.
Program gpipe(const PipelineShape& shape);

/// One forward, one backward. Bubble (pp−1)(F+B). The last rank holds at most 1 microbatch, any other rank r
/// at most pp − r + 1. That is one more than a pipeline without message times needs: with pp − r a rank would
/// be idle once per microbatch, while a gradient travels upstream and the activation that depends on it
/// travels downstream. v must be 1. Narayanan et al., "PipeDream", SOSP 2019.
Program one_f_one_b(const PipelineShape& shape);

/// 1F1B over v stages per rank. Each rank runs a group of microbatches through one of its stages before it
/// runs the group through the next. Bubble (pp−1)(F+B)/v. v must be at least 2.
///
/// If pp divides M, a group has pp microbatches. Otherwise the remainder is spread over the groups, which
/// then have between pp and 2·pp − 1 microbatches. A group smaller than pp would stall the ring of stages
/// (and can deadlock it); larger groups have the same bubble and hold a few more microbatches. If M < pp,
/// there is one group. Narayanan et al., "Efficient large-scale language model training on GPU clusters", SC
/// 2021, section 2.2.
Program interleaved_1f1b(const PipelineShape& shape);

/// 1F1B with the backward split in two halves. Rank r delays the weight halves by r microbatches, and they
/// fill the bubble at the end. Bubble (pp−1)(F+I−W) = (pp−1)(F+B−2W); every rank holds at most pp
/// microbatches. v must be 1. Qi et al., "Zero bubble pipeline parallelism", ICLR 2024, schedule ZB-H1.
Program zero_bubble_h1(const PipelineShape& shape);

/// Forwards only, for evaluation, on every rank in the order of interleaved_1f1b. Bubble (pp−1)·F/v if v is 1
/// or pp divides M. In other cases it may be larger, because the larger groups may wait for a buffer.
Program forward_only(const PipelineShape& shape);

/// The schedules of training: "gpipe", "1f1b", "interleaved_1f1b", "zero_bubble_h1"
std::vector<std::string> schedule_names();
/// Whether the schedule's programs have separate actions for the two halves of backward
/// (has_split_backward()). Throws UsageError for an unknown name.
bool splits_backward(std::string_view schedule);

/// Returns the program of the named schedule. Throws UsageError for an unknown name, listing the schedules,
/// for a factor below 1, and for a number of virtual stages that the schedule does not support.
Program make_program(std::string_view name, const PipelineShape& shape);

}  // namespace foretoken
