#include "launch/commands/tokenize.h"

#include <cstdio>
#include <optional>
#include <system_error>

#include "io/datasets/text_source.h"
#include "io/datasets/token_dataset_writer.h"
#include "io/datasets/tokenizer.h"
#include "io/files/printable.h"
#include "launch/console/console.h"
#include "launch/console/progress_bar.h"
#include "runtime/error.h"
#include "runtime/random.h"

namespace foretoken {

namespace {

void validate(const TokenizeOptions& options) {
  if (options.paths.empty()) throw UsageError("tokenize: no text given, expected files or folders");
  if (options.output.empty()) throw UsageError("tokenize: no output given");
  for (const std::filesystem::path& text : options.paths)
    for (const std::filesystem::path& output : {options.output, options.validation_output})
      if (std::error_code none; std::filesystem::equivalent(text, output, none))
        throw UsageError("tokenize: the output {} would replace the text that it is made from",
                         output.string());
  if (options.validation_output.empty()) return;
  if (std::filesystem::weakly_canonical(options.validation_output) ==
      std::filesystem::weakly_canonical(options.output))
    throw UsageError("tokenize: output and validation output are both {}", options.output.string());
  if (!(options.validation_fraction > 0 && options.validation_fraction < 1))
    throw UsageError("tokenize: validation fraction {} is not between 0 and 1", options.validation_fraction);
}

bool is_validation(std::int64_t document, double fraction) {
  static const CounterRng choice(0, "validation documents");
  return choice.uniform(static_cast<std::uint64_t>(document)) < fraction;
}

void require_documents(const TokenizeOptions& options, const TokenDatasetWriter& main,
                       const std::optional<TokenDatasetWriter>& validation,
                       const TextSource::Skipped& skipped) {
  const std::int64_t documents = main.documents() + (validation ? validation->documents() : 0);
  if (documents == 0)
    throw DataError(
        "tokenize: there is no text in what was named: {} files are binary, {} unreadable, {} empty",
        skipped.binary, skipped.unreadable, skipped.empty);
  if (validation && (main.documents() == 0 || validation->documents() == 0))
    throw DataError(
        "tokenize: a validation fraction of {} leaves {} of {} documents for training and {} for "
        "validation; documents are whole files, give more of them or another fraction",
        options.validation_fraction, main.documents(), documents, validation->documents());
}

void print_output(const char* what, const std::filesystem::path& path, const TokenDatasetWriter& writer) {
  print_text(fmt::format("{:<12}{}: {} documents, {} tokens, {}\n", what, printable(path.string()),
                         writer.documents(), writer.tokens(),
                         format_bytes(static_cast<double>(std::filesystem::file_size(path)))));
}

void print_skipped(const TextSource::Skipped& skipped) {
  if (skipped.binary + skipped.unreadable + skipped.empty + skipped.repeated > 0)
    print_text(fmt::format("{:<12}{} binary, {} unreadable, {} empty, {} already read\n", "skipped",
                           skipped.binary, skipped.unreadable, skipped.empty, skipped.repeated));
}

}  // namespace

int tokenize(const TokenizeOptions& options) {
  validate(options);
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options.tokenizer);
  ProgressBar* bar = nullptr;
  TextSource source(options.paths, [&bar](const std::string& message) {
    const std::string line = "unreadable: " + message;
    bar ? bar->print(line) : static_cast<void>(std::fprintf(stderr, "%s\n", printable(line).c_str()));
  });
  TokenDatasetWriter main(options.output, tokenizer->identity());
  std::optional<TokenDatasetWriter> validation;
  if (!options.validation_output.empty())
    validation.emplace(options.validation_output, tokenizer->identity());

  ProgressBar progress("tokenize", source.total_bytes(), stderr);
  bar = &progress;
  std::vector<std::int32_t> ids;
  for (std::int64_t document = 0; source.next_document(); ++document) {
    TokenDatasetWriter& writer =
        validation && is_validation(document, options.validation_fraction) ? *validation : main;
    for (std::string_view text = source.next_piece(); !text.empty(); text = source.next_piece()) {
      ids.clear();
      tokenizer->encode(text, ids);
      writer.append(ids);
      progress.update(source.done_bytes());
    }
    writer.end_document();
  }
  progress.update(source.done_bytes());
  progress.finish();
  bar = nullptr;

  require_documents(options, main, validation, source.skipped());
  main.finish();
  if (validation) validation->finish();
  main.publish();
  if (validation) validation->publish();
  print_output(validation ? "training" : "dataset", options.output, main);
  if (validation) print_output("validation", options.validation_output, *validation);
  print_text(fmt::format("{:<12}{}\n", "tokenizer", to_string(tokenizer->identity())));
  print_skipped(source.skipped());
  return static_cast<int>(ExitCode::done);
}

}  // namespace foretoken
