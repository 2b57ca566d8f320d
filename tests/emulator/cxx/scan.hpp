// Finds the kernels of a preprocessed source: extern "C" __global__ … void NAME(…), in either order with __launch_bounds__.
#pragma once

#include <cctype>
#include <string>
#include <vector>

namespace emulator {

struct FoundKernel {
  std::string name;
  std::string launch_bounds;  // the expression of the most threads; empty: none
};

// Identifiers, numbers and literals whole; everything else character by character.
inline std::vector<std::string> tokens(const std::string& source) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < source.size();) {
    const char c = source[i];
    std::size_t end = i + 1;
    if (std::isspace(static_cast<unsigned char>(c))) {
      i = end;
      continue;
    }
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') {
      while (end < source.size() && (std::isalnum(static_cast<unsigned char>(source[end])) || source[end] == '_'))
        ++end;
    } else if (c == '"' || c == '\'') {
      while (end < source.size() && source[end] != c) end += source[end] == '\\' ? 2 : 1;
      ++end;
    }
    found.push_back(source.substr(i, end - i));
    i = end;
  }
  return found;
}

// The position behind the parenthesis that closes the one at `open`; `text` gets what stands between, up to a comma.
inline std::size_t skip_parentheses(const std::vector<std::string>& token, std::size_t open, std::string* text) {
  int depth = 0;
  bool first = true;
  for (std::size_t i = open; i < token.size(); ++i) {
    if (token[i] == "(") ++depth;
    if (token[i] == ")" && --depth == 0) return i + 1;
    if (token[i] == "," && depth == 1) first = false;
    if (first && i != open && text != nullptr) *text += token[i] + " ";
  }
  return token.size();
}

// Only what a program can find by its name: a kernel without extern "C" has a mangled one, on a GPU as well.
inline std::vector<FoundKernel> find_kernels(const std::string& preprocessed) {
  const std::vector<std::string> token = tokens(preprocessed);
  std::vector<FoundKernel> kernels;
  std::vector<bool> braces;  // whether each open brace is one of extern "C" { }
  std::size_t statement = 0;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == "{") braces.push_back(i >= 2 && token[i - 1] == "\"C\"" && token[i - 2] == "extern");
    if (token[i] == "}" && !braces.empty()) braces.pop_back();
    if (token[i] == ";" || token[i] == "{" || token[i] == "}") statement = i + 1;
    if (token[i] != "__global__") continue;
    bool by_name = !braces.empty() && braces.back();
    for (std::size_t j = statement; j + 1 < i; ++j)
      by_name = by_name || (token[j] == "extern" && token[j + 1] == "\"C\"");
    FoundKernel kernel;
    std::size_t j = i + 1;
    while (j < token.size()) {
      if (token[j] == "__launch_bounds__" && j + 1 < token.size()) {
        j = skip_parentheses(token, j + 1, &kernel.launch_bounds);
      } else if (token[j] == "__attribute__" && j + 1 < token.size()) {
        j = skip_parentheses(token, j + 1, nullptr);
      } else if (token[j] == "(") {
        kernel.name = token[j - 1];
        j = skip_parentheses(token, j, nullptr);
        break;
      } else {
        ++j;
      }
    }
    if (!by_name || j >= token.size() || token[j] != "{") continue;  // a declaration is none
    kernels.push_back(kernel);
  }
  return kernels;
}

}  // namespace emulator
