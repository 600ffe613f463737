#pragma once
// Generators of pipeline programs: pure functions from a shape to the compute actions of every rank. Every
// generator takes any number of microbatches from 1 on, and runs the backwards of a stage in the order of
// the microbatches, so that weight gradients are summed in the same order whatever the schedule.
//
// F, B, I, W below are the times of a whole rank for one microbatch; bubble is what a rank idles in a step of
// M ≥ pp microbatches when messages cost nothing.

#include <string>
#include <string_view>
#include <vector>

#include "parallel/program.h"

namespace foretoken {

/// All forwards, then all backwards, stage after stage. Bubble (pp−1)(F+B)/v; every stage holds all M
/// microbatches. Huang et al., "GPipe", NeurIPS 2019.
Program gpipe(const PipelineShape& shape);

/// One forward, one backward. Bubble (pp−1)(F+B); rank r holds at most pp − r + 1 microbatches, the last rank
/// 1. The one more than pp − r hides messages: without it a rank would be idle, once per microbatch, while a
/// gradient travels upstream and the activation that depends on it travels downstream. v must be 1.
/// Narayanan et al., "PipeDream", SOSP 2019.
Program one_f_one_b(const PipelineShape& shape);

/// 1F1B over v stages per rank, each rank running a group of microbatches through one of its stages before
/// the next. Bubble (pp−1)(F+B)/v. v must be at least 2.
///
/// Groups have pp microbatches where pp divides M. A remainder is spread over the groups, which then have
/// between pp and 2·pp − 1: a group smaller than pp would stall the ring (and can deadlock it), larger ones
/// keep the bubble and hold a few more microbatches. M < pp is one group.
/// Narayanan et al., "Efficient large-scale language model training on GPU clusters", SC 2021, section 2.2.
Program interleaved_1f1b(const PipelineShape& shape);

/// 1F1B with the backward in halves: rank r puts the weight halves off by r microbatches, which fill the
/// bubble at the end. Bubble (pp−1)(F+I−W) = (pp−1)(F+B−2W); every rank holds at most pp microbatches.
/// v must be 1. Qi et al., "Zero bubble pipeline parallelism", ICLR 2024, schedule ZB-H1.
Program zero_bubble_h1(const PipelineShape& shape);

/// Forwards alone, for evaluation: on every rank in the order of interleaved_1f1b. Bubble (pp−1)·F/v where v
/// is 1 or pp divides M; else larger groups may wait for a buffer.
Program forward_only(const PipelineShape& shape);

/// The schedules of training: "gpipe", "1f1b", "interleaved_1f1b", "zero_bubble_h1"
std::vector<std::string> schedule_names();

/// The program of that name. A UsageError lists the schedules where there is none of that name, and says
/// what is impossible: a factor below 1, or virtual stages that the schedule does not take.
Program make_program(std::string_view name, const PipelineShape& shape);

}  // namespace foretoken
