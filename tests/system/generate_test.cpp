// foretoken generate as a user runs it.

#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Trains a model with two MTP modules on a repetitive text.
struct Trained {
  TemporaryFolder folder;
  std::string run_path = (folder / "run").string();

  explicit Trained(const std::string& sets = "") {
    const Outcome outcome =
        run(fmt::format("{} {} --run-directory {} --set train.steps=300 --set optimizer.lr=0.02 {}",
                        program_on(2), small_training(folder), run_path, sets));
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
  }
  std::string command(const std::string& arguments) const {
    return fmt::format("{} generate {} --device cpu {}", program(), run_path, arguments);
  }
  /// The stdout of a command.
  std::string text(const std::string& arguments) const {
    const Outcome outcome = run(command(arguments) + " 2>/dev/null");
    CHECK(outcome.code == 0);
    return outcome.output;
  }
};

/// The number after `name` in a text.
double figure(const std::string& text, const std::string& name) {
  const std::size_t at = text.find(name);
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + name.size()));
}

const std::string both = "--prompt 'line 1 of a' --prompt 'line 25 of a text that' ";

}  // namespace

TEST_CASE("generate continues prompts, and speculation changes only the speed") {
  const Trained model(GENERATE("--set parallel.pp=2", "--set mtp.repeat=true", "--set mtp.kind=parallel"));
  const std::string greedy = both + "--temperature 0 --max-tokens 60 ";
  const std::string plain = model.text(greedy);
  CHECK_THAT(plain, contains("==> prompt 1 <==\n text ") && contains("==> prompt 2 <==\n repeats "));
  const Outcome outcome = run(model.command(greedy + "--speculate 2"));
  INFO(outcome.output);
  CHECK_THAT(outcome.output, contains(plain) && contains("; first token after") && contains(" s, then ") &&
                                 contains(" tokens/s"));
  // With untrained heads fewer than one draft in twenty would be accepted.
  CHECK(figure(outcome.output, "acceptance rate ") > 0.3);
  CHECK(figure(outcome.output, "mean acceptance length ") > 1.5);
  CHECK(model.text(greedy + "--speculate 7") == plain);
  CHECK(model.text(greedy + "--tree 3,2,1") == plain);
  CHECK(model.text(greedy + "--speculate auto") == plain);
  CHECK(model.text(greedy + "--tree 2,2 --speculate auto") == plain);
}

TEST_CASE("a draft model, with heads or without, changes only the speed") {
  const Trained model("--set mtp.depths=0"), draft("--set model.num_hidden_layers=1");
  const std::string greedy = both + "--temperature 0 --max-tokens 60 ",
                    by = "--draft " + draft.run_path + " ";
  const std::string plain = model.text(greedy);
  const Outcome outcome = run(model.command(greedy + by + "--speculate 3"));
  INFO(outcome.output);
  CHECK_THAT(outcome.output, contains(plain));
  CHECK(figure(outcome.output, "acceptance rate ") > 0.3);
  CHECK(model.text(greedy + by) == plain);
  CHECK(model.text(greedy + by + "--tree 2,2,1") == plain);
}

TEST_CASE("a draft model with another tokenizer is refused") {
  const Trained model;
  const TemporaryFolder folder;
  const std::string other = (folder / "step_00000001").string();
  CheckpointInfo info = test_info(1, 1);
  info.config = "[model]\nhidden_size = 12\n";
  info.tokenizer = {.name = "words", .digest = "1", .vocab_size = 9, .end_of_document = 8};
  CheckpointWriter writer(folder.path(), 0, 1, {});
  const std::vector<RankPieces> cut = cut_by_tensor(1, 1);
  writer.save(info, cut[0].pieces, [] {});
  writer.finish();
  const Outcome outcome = run(model.command("--prompt line --draft " + other));
  CHECK(outcome.code == 3);
  CHECK_THAT(outcome.output,
             contains("generate: the tokenizers differ: draft model " + other +
                      " was trained with words (digest 1, vocabulary 9, end of document 8), model " +
                      model.run_path + " with bytes (digest "));
  CHECK(run(model.command("--prompt line --draft /nowhere")).code == 3);
}

TEST_CASE(
    "generate --parallel-decode needs fewer rounds and warns that the text differs from other decoding") {
  const Trained model;
  const Outcome outcome = run(model.command("--prompt 'line 1 of a' --max-tokens 61 --parallel-decode 3"));
  INFO(outcome.output);
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output,
             contains("the text differs from the text without this flag") && contains(" text "));
  CHECK(figure(outcome.output, "mean acceptance length ") == 3);
}

TEST_CASE("the same seed gives the same text, and a text ends before a stop string") {
  const Trained model;
  const std::string sampled = "--prompt 'line 7 of' --max-tokens 50 --top-p 0.9 --speculate 3 --seed ";
  CHECK(model.text(sampled + "5") == model.text(sampled + "5"));
  CHECK(model.text(sampled + "5") != model.text(sampled + "6"));
  const std::string greedy = "--prompt 'line 7 of a te' --temperature 0 --max-tokens 50 ";
  const std::string whole = model.text(greedy);
  const std::string stop = whole.substr(20, 5);
  CHECK(model.text(fmt::format("{} --speculate 4 --stop '{}' --stop zzz", greedy, stop)) ==
        whole.substr(0, whole.find(stop)) + "\n");
}

TEST_CASE("a prompt comes from standard input on any number of ranks, and can be shown before its text") {
  const Trained model;
  const std::string greedy = " --temperature 0 --max-tokens 20 ";
  const std::string plain = model.text("--prompt 'line 7 of'" + greedy);
  const std::string from_input = " generate " + model.run_path + " --device cpu --echo --prompt - " + greedy;
  for (const std::string& each : {program(), program_on(2)})
    CHECK(run("printf 'line 7 of' | " + each + from_input + " 2>/dev/null").output == "line 7 of" + plain);
  const std::string file = model.folder.write("prompt", "line 7 of").string();
  CHECK(run(model.command("--prompt-file - --echo" + greedy) + " 2>/dev/null < " + file).output ==
        "line 7 of" + plain);
  CHECK(model.text("--echo " + both + greedy) ==
        "==> prompt 1 <==\nline 1 of a" + model.text("--prompt 'line 1 of a'" + greedy) +
            "==> prompt 2 <==\nline 25 of a text that" +
            model.text("--prompt 'line 25 of a text that'" + greedy));
  const auto refusal = [&](const std::string& arguments, const std::string& input) {
    return run(model.command(arguments) + " < " + input);
  };
  const Outcome empty = refusal("--prompt x --prompt -", "/dev/null");
  CHECK(empty.code == 2);
  CHECK_THAT(empty.output, contains("generate: prompt 2 (standard input) is empty"));
  CHECK(refusal("--prompt - --prompt-file -", "/dev/null").code == 2);
  const Outcome folder = refusal("--prompt -", "/");
  CHECK(folder.code == 3);
  CHECK_THAT(folder.output, contains("generate: standard input cannot be read: Is a directory"));
}

TEST_CASE("with --json each text is a line with the text, its stop reason and its drafts") {
  const Trained model;
  const std::string greedy = both + "--temperature 0 --max-tokens 60 --speculate 2 ";
  const std::string text = model.text(greedy);
  std::istringstream lines(model.text(greedy + "--stop ' a ' --json"));
  std::vector<nlohmann::json> read;
  for (std::string line; std::getline(lines, line);) read.push_back(nlohmann::json::parse(line));
  REQUIRE(read.size() == 2);
  CHECK(read[0]["prompt"] == "line 1 of a");
  CHECK(read[1]["prompt"] == "line 25 of a text that");
  std::int64_t stopped = 0;
  for (const nlohmann::json& each : read) {
    INFO(each.dump());
    const auto shown = each["text"].get<std::string>();
    CHECK_THAT(text, contains(shown));
    CHECK(each["prompt_tokens"] == each["prompt"].get<std::string>().size());
    const bool at_stop = each["stop_reason"] == "stop_text";
    stopped += at_stop;
    if (at_stop) CHECK(each["stop_text"] == " a ");
    CHECK(each["tokens"] == shown.size() + (at_stop ? 3 : 0));
    CHECK(each["speculation"]["accepted"] > 0);
    CHECK(each["tokens_per_second"] > 0);
  }
  CHECK(stopped > 0);
  CHECK_THAT(run(model.command(greedy + "--stop ' a '")).output,
             contains("stopped    text 1 at the stop text \" a \" after "));
}

TEST_CASE("a model on several ranks generates the text of one rank, and an error ends all ranks") {
  const Trained model;
  const auto spread = [&](int ranks, const std::string& arguments) {
    return run(fmt::format("{} generate {} --device cpu {}", program_on(ranks), model.run_path, arguments));
  };
  // mpirun does not preserve the order of stdout and stderr.
  const std::string alone = " 2>/dev/null";
  const std::string sampled = both + "--max-tokens 30 --speculate 3 --seed 2",
                    by_model = both + "--max-tokens 30 --temperature 0 --draft " + model.run_path;
  CHECK(spread(2, sampled + alone).output == model.text(sampled));
  CHECK(spread(4, sampled + alone).output == model.text(sampled));
  CHECK(spread(2, by_model + alone).output == model.text(by_model));

  const Outcome too_many = spread(10, "--prompt x");
  CHECK(too_many.code == 2);
  CHECK_THAT(
      too_many.output,
      contains("[rank 0] partition: pp 10 × v 1 = 10 stages need at least 4.5 layers, the model has 4"));
  const Outcome unreadable = spread(2, "--prompt-file /nowhere.txt");
  CHECK(unreadable.code == 3);
  CHECK_THAT(unreadable.output, contains("generate: /nowhere.txt: there is no such file"));
  const Outcome too_long = spread(2, "--prompt " + std::string(2048, 'x'));
  CHECK(too_long.code == 2);
  CHECK_THAT(too_long.output,
             contains("[rank 0] generate: prompt 1 has 2048 tokens, but the model has 2048"));
}

TEST_CASE("generate without prediction heads says so and decodes without drafts") {
  const Trained model("--set mtp.depths=0");
  const Outcome outcome = run(model.command("--prompt line --max-tokens 5 --speculate 2"));
  CHECK(outcome.code == 0);
  CHECK_THAT(
      outcome.output,
      contains("warning: generate: the model has no prediction heads: it generates without speculation"));
}

TEST_CASE("invalid prompts and paths without a checkpoint are refused") {
  const Trained model("--set model.max_position_embeddings=24");
  const auto refusal = [&](const std::string& arguments, int code) {
    const Outcome outcome = run(model.command(arguments));
    CHECK(outcome.code == code);
    return outcome.output;
  };
  CHECK_THAT(refusal("", 2), contains("generate: no prompt"));
  CHECK_THAT(refusal("--prompt-file " + model.folder.write("empty.txt", "").string(), 2),
             contains("generate: prompt 1 is empty"));
  CHECK_THAT(refusal("--prompt-file " + model.folder.path().string(), 3),
             contains("is a folder, expected a file"));
  CHECK_THAT(refusal("--prompt-file /nowhere.txt", 3),
             contains("generate: /nowhere.txt: there is no such file"));
  CHECK_THAT(refusal("--prompt 'a prompt of more than 24 tokens'", 2),
             contains("prompt 1 has 31 tokens, but the model has 24 positions (max_position_embeddings)"));
  CHECK(run(program() + " generate " + model.folder.path().string() + "/no-run --prompt x").code == 3);
  const Outcome full = run(model.command("--prompt 'line 1 of a text that' --max-tokens 50 --temperature 0"));
  CHECK_THAT(full.output,
             contains("warning: generate: a prompt of 21 tokens and 50 new tokens exceed the model's 24 "
                      "positions (max_position_embeddings): the text ends at the last position") &&
                 contains("stopped    at the model's last position after 3 new tokens"));
}

TEST_CASE("a text that may become longer than the training rows gives a warning") {
  const Trained model;
  const std::string warning = "but the model was trained on rows of ";
  const Outcome within = run(model.command("--prompt line --max-tokens 4"));
  CHECK(within.output.find(warning) == std::string::npos);
  CHECK_THAT(run(model.command("--prompt line --max-tokens 400")).output,
             contains("warning: generate: a text may reach 404 tokens, " + warning));
}
