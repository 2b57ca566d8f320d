// The options of nvrtcCompileProgram: which are passed on, which mean nothing here, and which do not exist.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

namespace emulator {

struct Options {
  std::vector<std::string> definitions;
  int architecture = 75;   // NVRTC's default, compute_75
  bool is_virtual = true;  // compute_…: PTX only, as NVRTC's default is
  std::string unknown;     // the first option that NVRTC does not have
};

inline bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

inline Options read_options(int count, const char* const* given) {
  // Options with a value, and without.
  static const char* const with_value[] = {"std",          "ptxas-options",  "fmad",
                                           "ftz",          "prec-div",       "prec-sqrt",
                                           "maxrregcount", "split-compile",  "diag-suppress",
                                           "Xptxas",       "dopt",           "optimization-level",
                                           "define-macro", "undefine-macro", "gpu-architecture",
                                           "arch"};
  static const char* const without[] = {"use_fast_math",
                                        "default-device",
                                        "device-as-default-execution-space",
                                        "extra-device-vectorization",
                                        "restrict",
                                        "lineinfo",
                                        "generate-line-info",
                                        "device-debug",
                                        "G",
                                        "disable-warnings",
                                        "w",
                                        "no-source-include",
                                        "minimal"};
  Options options;
  for (int i = 0; i < count; ++i) {
    const std::string whole = given[i];
    if (starts_with(whole, "-D") || starts_with(whole, "-U")) {
      options.definitions.push_back(whole);
      if (whole.size() == 2 && i + 1 < count) options.definitions.push_back(given[++i]);
      continue;
    }
    const std::size_t dashes = starts_with(whole, "--") ? 2 : starts_with(whole, "-") ? 1 : 0;
    const std::size_t equals = whole.find('=');
    const std::string name = whole.substr(dashes, equals == std::string::npos ? equals : equals - dashes);
    bool known = false;
    if (dashes != 0 && equals == std::string::npos) {
      for (const char* candidate : without) known = known || name == candidate;
    }
    std::string value = equals == std::string::npos ? "" : whole.substr(equals + 1);
    if (dashes != 0 && !known) {
      for (const char* candidate : with_value) known = known || name == candidate;
      if (known && equals == std::string::npos) {
        known = i + 1 < count;
        if (known) value = given[++i];
      }
    }
    if (known && (name == "gpu-architecture" || name == "arch")) {
      options.is_virtual = starts_with(value, "compute_");
      known = options.is_virtual || starts_with(value, "sm_");
      options.architecture = std::atoi(value.c_str() + (options.is_virtual ? 8 : 3));
    } else if (known && name == "define-macro") {
      options.definitions.push_back("-D" + value);
    } else if (known && name == "undefine-macro") {
      options.definitions.push_back("-U" + value);
    }
    if (!known && options.unknown.empty()) options.unknown = whole;
  }
  return options;
}

}  // namespace emulator
