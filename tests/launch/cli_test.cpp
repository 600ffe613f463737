// The command line: arguments of every command, and errors.
#include "launch/cli/cli.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "io/checkpoint/run_directory.h"
#include "launch/config/config_loader.h"
#include "launch/config/options.h"
#include "launch/study/study_plan.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/source_tree.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using Catch::Matchers::StartsWith;
using foretoken::testing::contains;

namespace {

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    parse_command_line(arguments);
  } catch (const UsageError& error) {
    return error.what();
  }
  FAIL("accepted: " << arguments.size() << " arguments");
  return "";
}

std::string printed(const std::vector<std::string>& arguments) {
  return std::get<PrintText>(parse_command_line(arguments)).text;
}

}  // namespace

TEST_CASE("the help lists every command, and every command's help has an example") {
  const std::string help = printed({"--help"});
  for (const std::string command :
       {"tokenize", "train", "study", "evaluate", "generate", "inspect", "run", "doctor", "report"}) {
    CHECK_THAT(help, contains("  " + command + " "));
    CHECK_THAT(printed({command, "--help"}),
               contains("Example:\n") && contains("foretoken " + command + " "));
  }
  CHECK_THAT(printed({"--version"}), StartsWith("foretoken "));
}

TEST_CASE("doctor applies its file and flags, and refuses unknown settings") {
  const auto command = std::get<DoctorCommand>(parse_command_line(
      {"doctor", "--run", "runs/x", "--json", "--save", "links.json", "--set", "parallel.pp=2"}));
  CHECK(command.config.parallel.pp == 2);
  CHECK(command.arguments.run == "runs/x");
  CHECK(command.arguments.json);
  CHECK(command.arguments.save == "links.json");
  CHECK_THAT(refusal({"doctor", "--set", "parallel.qq=1"}), StartsWith("unknown key parallel.qq"));
  CHECK_THAT(refusal({"doctor", "--rnu", "x"}), contains("did you mean --run?"));
}

TEST_CASE("train's help lists every option") {
  const std::string help = printed({"train", "--help"});
  for (const Option& option : options()) CHECK_THAT(help, contains("  " + option.key + " = "));
}

TEST_CASE("an error about the command line names the command for help") {
  CHECK(refusal({}) == "command line: no command is given; see foretoken --help");
  CHECK(refusal({"trian"}) ==
        "command line: there is no command trian; did you mean train? See foretoken --help");
  CHECK(refusal({"benchmark"}) == "command line: there is no command benchmark; see foretoken --help");
  CHECK_THAT(refusal({"--verbose"}), contains("see foretoken --help"));
  CHECK_THAT(refusal({"tokenize", "-o", "data.h5"}),
             contains("PATHS") && contains("see foretoken tokenize --help"));
  CHECK_THAT(refusal({"tokenize", "text"}), contains("--output"));
  CHECK_THAT(refusal({"tokenize", "text", "-o", "d.h5", "--validation-fraction", "0.1"}),
             contains("--validation-output"));
  CHECK_THAT(refusal({"evaluate", "runs/x"}), contains("--data"));
  CHECK_THAT(refusal({"evaluate", "runs/x", "--data", "d.h5", "--rows", "-1"}), contains("--rows"));
  CHECK_THAT(refusal({"evaluate", "runs/x", "--data", "d.h5", "--set", "parallel.qq=1"}),
             StartsWith("unknown key parallel.qq (--set parallel.qq=1)"));
  CHECK_THAT(refusal({"evaluate", "runs/x", "--data", "d.h5", "--free-running", "-1"}),
             contains("--free-running"));
  CHECK_THAT(refusal({"inspect"}), contains("PATH"));
  CHECK_THAT(refusal({"study"}), contains("SWEEP"));
  CHECK_THAT(refusal({"train", "--stop-after", "0"}), contains("--stop-after"));
  CHECK_THAT(refusal({"train", "a.toml", "b.toml"}), contains("see foretoken train --help"));
  CHECK_THAT(refusal({"train", "--resume", "r", "--run-directory", "d"}), contains("--run-directory"));
}

TEST_CASE("a misspelt flag is reported before a missing argument, with the flag that was meant") {
  CHECK(refusal({"generate", "--promt", "x"}) ==
        "generate: there is no flag --promt; did you mean --prompt? See foretoken generate --help");
  CHECK(refusal({"evaluate", "x", "--dta=d.h5"}) ==
        "evaluate: there is no flag --dta; did you mean --data? See foretoken evaluate --help");
  CHECK(refusal({"inspect", "x", "--frobnicate"}) ==
        "inspect: there is no flag --frobnicate; see foretoken inspect --help");
  CHECK(refusal({"--versoin"}) ==
        "command line: there is no flag --versoin; did you mean --version? See foretoken --help");
  // The value of a flag is not checked as a flag.
  CHECK_THAT(refusal({"generate", "x", "--prompt", "--sed", "--temprature", "1"}),
             contains("there is no flag --temprature; did you mean --temperature?"));
}

TEST_CASE("a setting given as a flag is an error that names its --set") {
  const auto hint = [](const std::vector<std::string>& arguments) {
    const std::string text = refusal(arguments);
    return text.substr(text.find(';') + 2, text.find('?') - text.find(';') - 1);
  };
  CHECK(refusal({"train", "c.toml", "--lr", "1e-3"}) ==
        "train: there is no flag --lr; did you mean --set optimizer.lr=1e-3? See foretoken train --help");
  CHECK(hint({"train", "--hidden-size=64"}) == "did you mean --set model.hidden_size=64?");
  CHECK(hint({"train", "--hiden_size", "64"}) == "did you mean --set model.hidden_size=64?");
  CHECK(hint({"run", "c.toml", "--parallel.pp", "2"}) == "did you mean --set parallel.pp=2?");
  CHECK(hint({"train", "--train.steps=5"}) == "did you mean --set train.steps=5?");
  CHECK(hint({"train", "--global-batch", "8"}) == "did you mean --set train.global_batch=8?");
  CHECK(hint({"evaluate", "x", "--pp"}) == "did you mean --set parallel.pp=VALUE?");
  CHECK(hint({"train", "c.toml", "optimizer.lr=1e-3"}) == "did you mean --set optimizer.lr=1e-3?");
  CHECK(
      hint({"train", "--schedule", "zb1"}) ==
      "did you mean --set mtp.schedule=zb1 or --set optimizer.schedule=zb1 or --set parallel.schedule=zb1?");
  // generate has no --set, so the hint must not name it.
  CHECK_THAT(refusal({"generate", "x", "--lr", "1"}), !contains("--set"));
}

TEST_CASE("the help of every command fits 100 columns") {
  std::vector<std::vector<std::string>> all{{"--help"}};
  for (const char* command :
       {"tokenize", "train", "plan", "doctor", "run", "evaluate", "generate", "inspect", "report", "study"})
    all.push_back({command, "--help"});
  for (const std::vector<std::string>& arguments : all) {
    std::istringstream lines(printed(arguments));
    for (std::string line; std::getline(lines, line);) {
      CAPTURE(arguments.front(), line);
      CHECK(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }) <= 100);
    }
  }
}

TEST_CASE("brackets and commas of an argument are part of it") {
  const auto tokenize = std::get<TokenizeOptions>(
      parse_command_line({"tokenize", "[x]", "a,b", "[a,b]", "[", "[]", "-o", "[d]"}));
  CHECK(tokenize.paths == std::vector<std::filesystem::path>{"[x]", "a,b", "[a,b]", "[", "[]"});
  CHECK(tokenize.output == "[d]");
  const auto generate = std::get<GenerateArguments>(parse_command_line(
      {"generate", "[run]", "--prompt", "[a,b]", "--prompt", "x", "--stop", "[]", "--tree", "3,2"}));
  CHECK(generate.path == "[run]");
  CHECK(generate.prompts == std::vector<std::string>{"[a,b]", "x"});
  CHECK(generate.stops == std::vector<std::string>{"[]"});
  CHECK(generate.drafts == std::vector<int>{3, 2});
  CHECK(std::get<InspectArguments>(parse_command_line({"inspect", "[x]"})).path == "[x]");
  const auto train = std::get<TrainCommand>(
      parse_command_line({"train", "--set", "run.directory=[a,b]", "--run-directory", "[r]"}));
  CHECK(train.config.run.directory == absolute_path("[a,b]"));
  CHECK(train.arguments.run_directory == "[r]");
}

TEST_CASE("a number is decimal digits within the flag's range") {
  const auto generate = [](const std::string& flag, const std::string& value) {
    return refusal({"generate", "x", flag, value});
  };
  CHECK(generate("--seed", "-1") ==
        "generate: --seed: expected integer, at least 0 and below 2^64, found \"-1\"; see foretoken generate "
        "--help");
  CHECK(generate("--max-tokens", "010") ==
        "generate: --max-tokens: expected integer, 1 to 16777216, found \"010\"; see foretoken generate "
        "--help");
  for (const std::string value :
       {"18446744073709551616", "+1", " 1", "1 ", "1x", "0x1", "1.0", "1e3", "", "١"})
    CHECK_THAT(generate("--seed", value),
               contains("--seed: expected ") && contains("found \"" + value + "\""));
  for (const std::string value : {"-0.1", "nan", "inf", "1e999", "00.5", ".5", "0.5f", "0,5"})
    CHECK_THAT(generate("--temperature", value),
               contains("--temperature: expected number, at least 0, found \"" + value + "\""));
  CHECK_THAT(generate("--top-p", "0"), contains("expected number, above 0 and at most 1"));
  CHECK_THAT(generate("--top-k", "4294967296000000000000"), contains("--top-k"));
  CHECK_THAT(generate("--parallel-decode", "65"), contains("integer, 1 to 64"));
  CHECK_THAT(generate("--speculate", "03"), contains("--speculate is 03, expected 0 to 64 or auto"));
  for (const std::string value : {"3,,1", "3,02", "-1", "3,1,", "3,0", "256", "2;1", "9999999999"})
    CHECK_THAT(generate("--tree", value),
               contains("--tree: expected integers") && contains("found \"" + value + "\""));
  CHECK_THAT(refusal({"evaluate", "x", "--data", "d", "--rows", "9223372036854775808"}),
             contains("--rows: expected integer, at least 0 and below 2^63, found \""));
  CHECK_THAT(refusal({"train", "--stop-after", "1_000"}), contains("--stop-after"));
  CHECK_THAT(refusal({"run", "c.toml", "--run-directory", "r", "-n", "010"}),
             contains("--ranks: expected integer, 1 to 1048576, found \"010\""));
  CHECK_THAT(
      refusal({"tokenize", "t", "-o", "d.h5", "--validation-output", "v.h5", "--validation-fraction", "1.5"}),
      contains("--validation-fraction: expected number, 0 to 1, found \"1.5\""));
  for (const std::string set : {"train.steps=010", "train.steps=5 # five", "train.seed=-1", "train.steps=5x",
                                "train.seed=9223372036854775808", "optimizer.lr=01.5",
                                "mtp.depth_weights=0.1 # one", "data.path=\"a\" # b"})
    CHECK_THAT(refusal({"train", "--set", set}), contains(" (--set " + set + ")"));
  const auto arguments =
      std::get<GenerateArguments>(parse_command_line({"generate", "x", "--seed", "18446744073709551615",
                                                      "--temperature", "0.5", "--max-tokens", "16777216"}));
  CHECK(arguments.seed == 18446744073709551615u);
  CHECK(arguments.sampling.temperature == 0.5);
  CHECK(arguments.max_tokens == 16777216);
}

TEST_CASE("tokenize, evaluate, inspect and study parse their arguments") {
  const auto tokenize = std::get<TokenizeOptions>(parse_command_line(
      {"tokenize", "a", "b", "-o", "d.h5", "--validation-output", "v.h5", "--validation-fraction", "0.25"}));
  CHECK(tokenize.paths == std::vector<std::filesystem::path>{"a", "b"});
  CHECK(tokenize.output == "d.h5");
  CHECK(tokenize.tokenizer == "bytes");
  CHECK(tokenize.validation_output == "v.h5");
  CHECK(tokenize.validation_fraction == 0.25);

  const auto evaluate = std::get<EvaluateArguments>(
      parse_command_line({"evaluate", "--set", "parallel.pp=2", "--set", "parallel.dp=1", "runs/x", "--data",
                          "d.h5", "--rows", "7"}));
  CHECK(evaluate.path == "runs/x");
  CHECK(evaluate.data == "d.h5");
  CHECK(evaluate.rows == 7);
  CHECK(evaluate.sets == std::vector<std::string>{"parallel.pp=2", "parallel.dp=1"});

  const auto inspect = std::get<InspectArguments>(parse_command_line({"inspect", "runs/x", "--verify"}));
  CHECK(inspect.path == "runs/x");
  CHECK(inspect.verify);

  const auto study = std::get<StudyArguments>(
      parse_command_line({"study", "s.toml", "--launcher", "srun -n {ranks}", "--set", "train.steps=5"}));
  CHECK(study.sweep == "s.toml");
  CHECK(study.launcher == "srun -n {ranks}");
  CHECK(study.sets == std::vector<std::string>{"train.steps=5"});
}

TEST_CASE("run parses a configuration, a run folder, and how ranks are started and restarted") {
  const TemporaryFolder folder;
  const std::string config = folder.write("train.toml", "[train]\nsteps = 5\n").string();
  const auto command = std::get<SuperviseCommand>(
      parse_command_line({"run", config, "--run-directory", "r", "-n", "3", "--launcher", "srun",
                          "--max-restarts", "0", "--grace", "20", "--set", "train.seed=7"}));
  CHECK(command.config.train.steps == 5);
  CHECK(command.config.train.seed == 7);
  CHECK(command.arguments.config_path == config);
  CHECK(command.arguments.run_directory == "r");
  CHECK(command.arguments.ranks == 3);
  CHECK(command.arguments.launcher == "srun");
  CHECK(command.arguments.max_restarts == 0);
  CHECK(command.arguments.grace == 20);
  CHECK(command.arguments.sets == std::vector<std::string>{"train.seed=7"});
  CHECK_THAT(refusal({"run", config}), contains("--run-directory"));
  CHECK_THAT(refusal({"run", config, "--run-directory", "r", "-n", "0"}), contains("--ranks"));
  CHECK_THAT(refusal({"train", config, "--auto-resume"}), contains("--auto-resume needs --run-directory"));
}

TEST_CASE("train applies the file, then the flags") {
  const TemporaryFolder folder;
  folder.write("train.toml", "[train]\nsteps = 5\nseed = 3\n");
  const auto command = std::get<TrainCommand>(parse_command_line(
      {"train", "--set", "train.steps=6", (folder / "train.toml").string(), "--stop-after", "4"}));
  CHECK(command.config.train.steps == 6);
  CHECK(command.config.train.seed == 3);
  CHECK(command.arguments.config_path == (folder / "train.toml").string());
  CHECK(command.arguments.stop_after == 4);
  CHECK(command.arguments.resume.empty());
}

TEST_CASE("a resumed run has its own settings, overridden by the file and the flags") {
  const TemporaryFolder folder;
  Config original;
  apply_sets(original, {"train.steps=77", "parallel.pp=2", "train.seed=9"});
  const RunDirectory run = RunDirectory::create((folder / "runs").string(), "first", to_toml(original));
  folder.write("changes.toml", "[train]\nsteps = 88\n");
  const auto command = std::get<TrainCommand>(parse_command_line(
      {"train", (folder / "changes.toml").string(), "--resume", run.path(), "--set", "parallel.pp=4"}));
  CHECK(command.config.train.seed == 9);
  CHECK(command.config.train.steps == 88);
  CHECK(command.config.parallel.pp == 4);
  CHECK(command.arguments.resume == run.path());
  CHECK_THAT(refusal({"train", "--resume", run.path(), "--set", "mtp.depths=3"}),
             contains("mtp.depths: the run that is resumed has 0, found 3"));
}

TEST_CASE("auto-resume uses CONFIG for a new run only, and a resumed run keeps its settings") {
  const TemporaryFolder folder;
  folder.write("train.toml", "[train]\nsteps = 88\n");
  const std::string config = (folder / "train.toml").string(), path = (folder / "run").string();
  const auto steps = [&] {
    return std::get<TrainCommand>(
               parse_command_line({"train", config, "--run-directory", path, "--auto-resume"}))
        .config.train.steps;
  };
  CHECK(steps() == 88);
  Config original;
  apply_sets(original, {"train.steps=77"});
  RunDirectory::create_at(path, to_toml(original));
  CHECK(steps() == 88);  // there is no checkpoint to continue from
  std::filesystem::create_directories(path + "/checkpoints/step_00000005");
  CHECK(steps() == 77);
}

TEST_CASE(
    "generate parses how to draft: by heads or a model, chains or trees, at a given or the fastest depth") {
  const auto arguments = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"generate", "x"});
    return std::get<GenerateArguments>(parse_command_line(flags));
  };
  const GenerateArguments tree = arguments({"--tree", "3,2,1"});
  CHECK(tree.drafts == TreeShape{3, 2, 1});
  CHECK(!tree.adapt_drafts);
  CHECK(arguments({"--tree", "3,2", "--speculate", "auto"}).adapt_drafts);
  const GenerateArguments automatic = arguments({"--speculate", "auto"});
  CHECK(automatic.adapt_drafts);
  CHECK(automatic.drafts == TreeShape(8, 1));
  const GenerateArguments model = arguments({"--draft", "runs/small"});
  CHECK(model.draft_path == "runs/small");
  CHECK(model.adapt_drafts);
  CHECK(!arguments({"--draft", "runs/small", "--speculate", "3"}).adapt_drafts);
  const GenerateArguments blocks = arguments({"--parallel-decode", "4"});
  CHECK(blocks.parallel_candidates == 4);
  CHECK(blocks.drafts.empty());
  CHECK(blocks.sampling.temperature == 0);
}

TEST_CASE("generate parses prompts, stop texts and sampling, and refuses contradictions") {
  const auto arguments = std::get<GenerateArguments>(
      parse_command_line({"generate",    "runs/x",      "--prompt", "[one, two]",
                          "--prompt=-3", "--stop",      "end",      "--temperature",
                          "0.5",         "--top-k",     "40",       "--top-p",
                          "0.9",         "--min-p",     "0.05",     "--repetition-penalty",
                          "1.1",         "--seed",      "7",        "--max-tokens",
                          "9",           "--speculate", "4",        "--device",
                          "cpu"}));
  CHECK(arguments.path == "runs/x");
  CHECK(arguments.prompts == std::vector<std::string>{"[one, two]", "-3"});
  CHECK(arguments.stops == std::vector<std::string>{"end"});
  CHECK(arguments.sampling.temperature == 0.5);
  CHECK(arguments.sampling.top_k == 40);
  CHECK(arguments.sampling.top_p == 0.9);
  CHECK(arguments.sampling.min_p == 0.05);
  CHECK(arguments.sampling.repetition_penalty == 1.1);
  CHECK(arguments.seed == 7);
  CHECK(arguments.max_tokens == 9);
  CHECK(arguments.drafts == TreeShape{1, 1, 1, 1});
  CHECK(!arguments.adapt_drafts);
  CHECK(arguments.device == RunConfig::Device::cpu);

  CHECK(std::get<GenerateArguments>(parse_command_line({"generate", "x", "--prompt", "-"})).prompts ==
        std::vector<std::string>{"-"});
  CHECK(std::get<GenerateArguments>(parse_command_line({"generate", "x", "--echo"})).echo);
  CHECK(std::get<GenerateArguments>(parse_command_line({"generate", "x", "--json"})).json);
  CHECK_THAT(refusal({"generate", "x", "--json", "--echo"}), contains("--echo"));

  const auto plain = std::get<GenerateArguments>(parse_command_line({"generate", "runs/x"}));
  CHECK(plain.sampling.temperature == 0.8);
  CHECK(plain.drafts.empty());
  CHECK(plain.device == RunConfig::Device::automatic);

  CHECK_THAT(refusal({"generate"}), contains("PATH") && contains("see foretoken generate --help"));
  CHECK_THAT(refusal({"generate", "x", "--top-p", "0"}),
             contains("--top-p: expected ") && contains("found \"0\""));
  CHECK_THAT(refusal({"generate", "x", "--temperature", "-1"}),
             contains("--temperature: expected number, at least 0, found \"-1\""));
  CHECK_THAT(refusal({"generate", "x", "--speculate", "65"}),
             contains("--speculate is 65, expected 0 to 64 or auto"));
  CHECK_THAT(refusal({"generate", "x", "--speculate", "2x"}), contains("--speculate is 2x"));
  CHECK_THAT(refusal({"generate", "x", "--tree", "3,0"}),
             contains("--tree: expected integers") && contains("found \"3,0\""));
  CHECK_THAT(refusal({"generate", "x", "--tree", "9,9,9"}), contains("more than 255 drafts"));
  CHECK_THAT(refusal({"generate", "x", "--tree", "3,2", "--speculate", "2"}), contains("--tree"));
  CHECK_THAT(refusal({"generate", "x", "--parallel-decode", "3", "--temperature", "1"}),
             contains("--temperature"));
  CHECK_THAT(refusal({"generate", "x", "--parallel-decode", "3", "--speculate", "auto"}),
             contains("--speculate auto contradicts --parallel-decode"));
  CHECK_THAT(refusal({"generate", "x", "--max-tokens", "0"}), contains("--max-tokens"));
  CHECK_THAT(refusal({"generate", "x", "--device", "tpu"}),
             contains("--device: expected auto, cpu or cuda, found \"tpu\""));
  CHECK_THAT(refusal({"generate", "x", "--stop", ""}), contains("--stop is empty"));
}

TEST_CASE("starting from a missing run is an error, and --from excludes --resume") {
  const TemporaryFolder folder;
  const std::string nowhere = (folder / "nowhere").string();
  CHECK_THROWS_AS(parse_command_line({"train", "--from", nowhere}), DataError);
  CHECK_THAT(refusal({"train", "--from", nowhere, "--resume", nowhere}), contains("--from"));
}

TEST_CASE("resuming a missing run is an error, not the start of a new run") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(parse_command_line({"train", "--resume", (folder / "nowhere").string()}), DataError);
}

TEST_CASE("the output of --print-config loads back to the same configuration") {
  const TemporaryFolder folder;
  const std::string text =
      printed({"train", "--print-config", "--set", "train.steps=6", "--set", "optimizer.lr=0.3"});
  folder.write("printed.toml", text);
  CHECK(printed({"train", (folder / "printed.toml").string(), "--print-config"}) == text);
  CHECK_THAT(text, contains("steps = 6\n") && contains("lr = 0.3\n"));
}

TEST_CASE("every example configuration loads and passes the cross-checks") {
  const std::filesystem::path configs = testing::in_source_tree("launch/configs");
  int examples = 0;
  for (const auto& file : std::filesystem::directory_iterator(configs)) {
    INFO(file.path());
    const std::string name = file.path().filename().string();
    if (name.starts_with("study_") || name.starts_with("scaling_"))  // some need a GPU: run.device=auto
      CHECK(read_sweep(file.path().string(), {"run.device=auto"}, best_layout).points.size() > 2);
    else
      CHECK_NOTHROW(parse_command_line({"train", file.path().string(), "--print-config"}));
    ++examples;
  }
  CHECK(examples > 0);
}
