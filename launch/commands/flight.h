#pragma once
// Flight records of a run: their location, and `foretoken inspect --flight`, which reads them.
//
//   RUN/flight/JOB/rank_00003.txt   one launch of the run's ranks; JOB is the launcher's name for the job
//   RUN.flight/JOB/                 a launch that got stuck before the folder of its new run existed; RUN is
//                                   --run-directory or, without this flag, run.directory/run.name
//   TMP/foretoken-flight-UID/JOB/   a command without a run folder (evaluate, generate, doctor)

#include <filesystem>
#include <ostream>
#include <string>

#include "launch/config/config.h"
#include "launch/config/train_arguments.h"

namespace foretoken {

/// The folder for the start-up of `train`, before there is a run folder. A resumed run uses the folder of its
/// steps.
std::filesystem::path start_up_flight_folder(const Config& config, const TrainArguments& arguments);
/// The folder for the steps of a run.
std::filesystem::path flight_folder(const std::string& run);
/// The folder for a command without a run folder.
std::filesystem::path flight_folder_without_run();

/// Removes the records of old launches of the run, except the newest few.
void remove_old_flights(const std::string& run);

/// Prints which ranks were stuck and what each rank waited for. `path` is a run, its flight folder or a
/// folder of records; the newest launch is used. Throws a DataError if there are no records, or if a record
/// cannot be read.
int inspect_flight(const std::string& path, std::ostream& out);

}  // namespace foretoken
