// Running the compiler, and a few things with files.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

extern char** environ;

namespace emulator {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.flush();
  return file.good();
}

// A template for mkstemp and mkdtemp in the folder for temporary files.
inline std::string temporary_template() {
  const char* folder = std::getenv("TMPDIR");
  return std::string(folder == nullptr || *folder == 0 ? "/tmp" : folder) + "/finegrain-emulator-XXXXXX";
}

// A folder that is removed, with the files in it, when its owner goes.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = temporary_template();
    if (mkdtemp(path.data()) != nullptr) path_ = path;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    if (path_.empty()) return;
    for (const std::string& name : names_) unlink(name.c_str());
    rmdir(path_.c_str());
  }
  std::string file(const char* name) {
    names_.push_back(path_ + "/" + name);
    return names_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

// Runs a command with stdout and stderr in a file. Its exit status; 127 where it cannot be started.
inline int run_command(const std::vector<std::string>& command, const std::string& output) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return 127;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 127;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace emulator
