#include "launch/generate/prompts.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <unistd.h>

#include <fmt/format.h>

#include "io/files/text_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr const char* standard_input = "-";

std::string text_of_file(const std::string& path) {
  try {
    return read_text_file(path, most_prompt_bytes);
  } catch (const DataError& error) {
    throw DataError("generate: {}", error.what());
  }
}

std::string all_of_standard_input() {
  if (isatty(STDIN_FILENO) == 1)
    fmt::print(stderr, "generate: reads the prompt from standard input; end it with Ctrl-D\n");
  std::string text;
  std::array<char, 1 << 16> block{};
  for (std::size_t count; (count = std::fread(block.data(), 1, block.size(), stdin)) > 0;) {
    text.append(block.data(), count);
    if (static_cast<std::int64_t>(text.size()) > most_prompt_bytes)
      throw DataError("generate: standard input has more than {} bytes", most_prompt_bytes);
  }
  if (std::ferror(stdin) != 0)
    throw DataError("generate: standard input cannot be read: {}", std::strerror(errno));
  return text;
}

void require_text(const Prompts& prompts, std::size_t index) {
  if (prompts.texts[index].empty())
    throw UsageError("generate: prompt {}{} is empty", index + 1,
                     index == prompts.from_input ? " (standard input)" : "");
}

}  // namespace

Prompts read_prompts(const GenerateArguments& arguments) {
  Prompts prompts;
  const auto add = [&](const std::string& given, bool is_path) {
    if (given == standard_input) {
      if (prompts.from_input)
        throw UsageError("generate: two prompts are \"-\", but standard input can be read only once");
      prompts.from_input = prompts.texts.size();
      prompts.texts.emplace_back();
      return;
    }
    prompts.texts.push_back(is_path ? text_of_file(given) : given);
    require_text(prompts, prompts.texts.size() - 1);
  };
  for (const std::string& text : arguments.prompts) add(text, false);
  for (const std::string& path : arguments.prompt_files) add(path, true);
  if (prompts.texts.empty())
    throw UsageError("generate: no prompt; give one with --prompt or --prompt-file, - for standard input");
  return prompts;
}

void read_standard_input(Prompts& prompts, MpiCommunicator& world) {
  if (!prompts.from_input) return;
  std::string& text = prompts.texts[*prompts.from_input];
  if (world.rank() == 0) {
    text = all_of_standard_input();
    require_text(prompts, *prompts.from_input);
  }
  if (world.size() == 1) return;
  std::int64_t bytes = std::ssize(text);
  world.broadcast(tensor_over(std::span(&bytes, 1), {1}), 0);
  text.resize(static_cast<std::size_t>(bytes));
  world.broadcast({text.data(), DType::u8, DeviceKind::cpu, {bytes}}, 0);
}

}  // namespace foretoken
