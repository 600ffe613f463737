#pragma once
// Flight records of a run: where they lie, and `foretoken inspect --flight`, which reads them.
//
//   RUN/flight/JOB/rank_00003.txt       of one start of the run's ranks, JOB as the launcher names it
//   RUN.flight/JOB/                     of a new run whose ranks were stopped before its folder was there;
//   where the
//                                       folder's name was not known yet, beside it with run.name instead
//   TMP/foretoken-flight/JOB/           of a command without a run folder (evaluate, generate)

#include <filesystem>
#include <ostream>
#include <string>

#include "launch/config.h"
#include "launch/train.h"

namespace foretoken {

/// For the start-up of `train`, before there is a run folder; of a resumed run the folder is that of its
/// steps.
std::filesystem::path start_up_flight_folder(const Config& config, const TrainArguments& arguments);
/// For the steps of a run.
std::filesystem::path flight_folder(const std::string& run);
/// For a command without a run folder.
std::filesystem::path flight_folder_without_run();

/// Removes the records of old starts of the run, all but the newest few.
void remove_old_flights(const std::string& run);

/// Prints who was stuck, and what each rank waited for. `path` is a run, its flight folder or a folder of
/// records; of several starts the newest. A DataError where there are no records, or one cannot be read.
int inspect_flight(const std::string& path, std::ostream& out);

}  // namespace foretoken
