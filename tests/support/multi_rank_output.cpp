#include "tests/support/multi_rank_output.h"

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <unistd.h>

namespace foretoken::multi_rank {

namespace {

int held_file = -1;
int true_stderr = -1;
char prefix[32];
std::size_t prefix_length = 0;

void put(const char* text, std::size_t length) {
  while (length > 0) {
    const ssize_t written = write(true_stderr, text, length);
    if (written <= 0) return;
    text += written;
    length -= static_cast<std::size_t>(written);
  }
}

/// Uses only async-signal-safe calls. Writes whole lines, so that lines of different ranks do not mix.
void replay() {
  static char line[4096];
  std::size_t length = 0;
  off_t position = 0;
  char chunk[1024];
  for (ssize_t count = 0; (count = pread(held_file, chunk, sizeof chunk, position)) > 0; position += count)
    for (ssize_t i = 0; i < count; ++i) {
      if (length == 0)
        for (; length < prefix_length; ++length) line[length] = prefix[length];
      line[length++] = chunk[i];
      if (chunk[i] == '\n' || length == sizeof line - 1) {
        if (chunk[i] != '\n') line[length++] = '\n';
        put(line, length);
        length = 0;
      }
    }
  if (length > 0) {
    line[length++] = '\n';
    put(line, length);
  }
}

// Catch's handler reports the signal, restores this handler and raises the signal again.
void show_and_die(int signal) {
  replay();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void hold_output(int rank) {
  std::FILE* file = std::tmpfile();
  if (file == nullptr) throw std::runtime_error("test output: no temporary file");
  held_file = fileno(file);
  true_stderr = dup(STDERR_FILENO);
  prefix_length = static_cast<std::size_t>(std::snprintf(prefix, sizeof prefix, "[rank %d] ", rank));
  std::fflush(nullptr);
  dup2(held_file, STDOUT_FILENO);
  dup2(held_file, STDERR_FILENO);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // the file then contains all that a dying process has printed
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) std::signal(signal, show_and_die);
}

void show_held_output() {
  if (held_file < 0) return;
  std::cout.flush();
  std::fflush(stdout);
  replay();
}

}  // namespace foretoken::multi_rank
