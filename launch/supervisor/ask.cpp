#include "launch/supervisor/ask.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

namespace foretoken {

Answer ask(const std::string& command, std::chrono::seconds limit, ErrorOutput errors) {
  const std::string line = fmt::format("timeout {} {} 2>{} </dev/null", limit.count(), command,
                                       errors == ErrorOutput::included ? "&1" : "/dev/null");
  Answer answer;
  std::FILE* pipe = popen(line.c_str(), "re");
  if (pipe == nullptr) return answer;
  std::array<char, 4096> buffer{};
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), pipe))
    answer.text.append(buffer.data(), bytes);
  const int status = pclose(pipe);
  if (status >= 0 && WIFEXITED(status)) answer.code = WEXITSTATUS(status);
  return answer;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

bool is_in_path(std::string_view program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (access(fmt::format("{}/{}", folder.empty() ? "." : folder, program).c_str(), X_OK) == 0) return true;
  return false;
}

}  // namespace foretoken
