#include "launch/commands/tokenize.h"

#include <cstdio>
#include <optional>
#include <system_error>

#include "io/datasets/text_source.h"
#include "io/datasets/token_dataset_writer.h"
#include "io/files/printable.h"
#include "io/tokenizers/tokenizer.h"
#include "launch/commands/document_split.h"
#include "launch/console/console.h"
#include "launch/console/progress_bar.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

void validate(const TokenizeOptions& options) {
  if (options.paths.empty()) throw UsageError("tokenize: no text given, expected files or folders");
  if (options.output.empty()) throw UsageError("tokenize: no output given");
  for (const std::filesystem::path& text : options.paths)
    for (const std::filesystem::path& output : {options.output, options.validation_output})
      if (std::error_code none; std::filesystem::equivalent(text, output, none))
        throw UsageError("tokenize: the output {} would replace an input file", output.string());
  if (options.validation_output.empty()) return;
  if (std::filesystem::weakly_canonical(options.validation_output) ==
      std::filesystem::weakly_canonical(options.output))
    throw UsageError("tokenize: output and validation output are both {}", options.output.string());
  if (!(options.validation_fraction > 0 && options.validation_fraction < 1))
    throw UsageError("tokenize: validation fraction {} is not between 0 and 1", options.validation_fraction);
}

void require_documents(const TokenizeOptions& options, const TokenDatasetWriter& main,
                       const std::optional<TokenDatasetWriter>& validation,
                       const TextSource::Skipped& skipped) {
  const std::int64_t documents = main.documents() + (validation ? validation->documents() : 0);
  if (documents == 0)
    throw DataError("tokenize: there is no text in the files: {} binary, {} unreadable, {} empty",
                    skipped.binary, skipped.unreadable, skipped.empty);
  if (validation && (main.documents() == 0 || validation->documents() == 0))
    throw DataError(
        "tokenize: a validation fraction of {} leaves {} of {} for training and {} for validation; "
        "documents are whole files: add files or change the fraction",
        options.validation_fraction, main.documents(), counted(documents, "document"),
        validation->documents());
}

void print_output(const char* what, const std::filesystem::path& path, const TokenDatasetWriter& writer) {
  print_text(fmt::format("{:<12}{}: {}, {}, {}\n", what, printable(path.string()),
                         counted(writer.documents(), "document"), counted(writer.tokens(), "token"),
                         format_bytes(static_cast<double>(std::filesystem::file_size(path)))));
}

/// Prints the fraction that was reached: whole documents rarely add up to the requested one.
void print_split(const TokenizeOptions& options, const TokenDatasetWriter& main,
                 const TokenDatasetWriter& validation) {
  const auto held_out = static_cast<double>(validation.tokens());
  print_text(fmt::format("{:<12}{:.4g} of all tokens are held out, {:g} requested\n", "split",
                         held_out / (held_out + static_cast<double>(main.tokens())),
                         options.validation_fraction));
}

void print_skipped(const TextSource::Skipped& skipped) {
  if (skipped.binary + skipped.unreadable + skipped.empty + skipped.repeated > 0)
    print_text(fmt::format("{:<12}{} binary, {} unreadable, {} empty, {} already read\n", "skipped",
                           skipped.binary, skipped.unreadable, skipped.empty, skipped.repeated));
}

/// One pass over all documents.
class Pass {
 public:
  using Report = TextSource::Report;
  Pass(const TokenizeOptions& options, const Tokenizer& tokenizer, Report report)
      : source_(options.paths, std::move(report)), encoder_(tokenizer.make_encoder()) {}

  const TextSource& source() const { return source_; }
  bool next_document() { return source_.next_document(); }
  /// Calls take(ids) for each piece of the document. Its tokens include the end-of-document token.
  template <class Take>
  DocumentRecord read_document(ProgressBar& progress, std::int64_t done_before, const Take& take) {
    DocumentRecord document{.tokens = 1};
    DigestStream digest;
    for (std::string_view text = source_.next_piece(); !text.empty(); text = source_.next_piece()) {
      digest.add(std::as_bytes(std::span(text)));
      ids_.clear();
      encoder_->encode(text, ids_);
      take(ids_);
      document.tokens += std::ssize(ids_);
      progress.update(done_before + source_.done_bytes());
    }
    document.text = digest.binary_digest();
    return document;
  }

 private:
  TextSource source_;
  std::unique_ptr<TokenEncoder> encoder_;
  std::vector<std::int32_t> ids_;
};

DocumentSplit split_of(const TokenizeOptions& options, Pass& pass, ProgressBar& progress) {
  std::vector<DocumentRecord> documents;
  while (pass.next_document()) documents.push_back(pass.read_document(progress, 0, [](const auto&) {}));
  return {std::move(documents), options.validation_fraction};
}

}  // namespace

int tokenize(const TokenizeOptions& options) {
  validate(options);
  const bool splits = !options.validation_output.empty();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options.tokenizer);
  ProgressBar* bar = nullptr;
  const auto report = [&bar](const std::string& message) {
    const std::string line = "unreadable: " + message;
    bar ? bar->print(line) : static_cast<void>(std::fprintf(stderr, "%s\n", printable(line).c_str()));
  };
  std::optional<Pass> pass(std::in_place, options, *tokenizer, report);
  TokenDatasetWriter main(options.output, tokenizer->identity());
  std::optional<TokenDatasetWriter> validation;
  if (splits) validation.emplace(options.validation_output, tokenizer->identity());

  const std::int64_t bytes = pass->source().total_bytes();
  ProgressBar progress("tokenize", splits ? 2 * bytes : bytes, stderr);
  bar = &progress;
  std::optional<DocumentSplit> split;
  if (splits) {
    split = split_of(options, *pass, progress);
    pass.emplace(options, *tokenizer, [](const std::string& /*already reported*/) {});
  }
  const std::int64_t done_before = splits ? bytes : 0;
  std::size_t documents = 0;
  for (; pass->next_document(); ++documents) {
    TokenDatasetWriter& writer = split && split->holds_out(documents) ? *validation : main;
    const DocumentRecord read =
        pass->read_document(progress, done_before, [&](const auto& ids) { writer.append(ids); });
    if (split) split->require_same(documents, read, pass->source().document_path());
    writer.end_document();
  }
  if (split) split->require_count(documents);
  progress.update(done_before + pass->source().done_bytes());
  progress.finish();
  bar = nullptr;

  const TextSource::Skipped& skipped = pass->source().skipped();
  require_documents(options, main, validation, skipped);
  main.finish();
  if (validation) validation->finish();
  main.publish();
  if (validation) validation->publish();
  print_output(validation ? "training" : "dataset", options.output, main);
  if (validation) {
    print_output("validation", options.validation_output, *validation);
    print_split(options, main, *validation);
  }
  print_text(fmt::format("{:<12}{}\n", "tokenizer", to_string(tokenizer->identity())));
  print_skipped(skipped);
  return static_cast<int>(ExitCode::done);
}

}  // namespace foretoken
