// libnvrtc: compiles CUDA C++ with the system's C++ compiler, after device.hpp, to a shared library with a table of its
// kernels. Compiled programs are kept beside this library, by the hash of all that went into them.
#include <dlfcn.h>

#include <cerrno>
#include <cstring>

#include "image.hpp"
#include "lane.hpp"
#include "nvrtc_options.hpp"
#include "process.hpp"
#include "scan.hpp"

#define EMULATOR_API extern "C" EMULATOR_EXPORT

using nvrtcResult = int;
enum : nvrtcResult {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_INVALID_INPUT = 3,
  NVRTC_ERROR_INVALID_PROGRAM = 4,
  NVRTC_ERROR_INVALID_OPTION = 5,
  NVRTC_ERROR_COMPILATION = 6,
  NVRTC_ERROR_INTERNAL_ERROR = 11,
};

namespace emulator {
namespace {

struct Program {
  std::string source, name, log, library;
  Options options;
};

// The folder of this library: device.hpp and libcuda lie there as well.
std::string own_folder() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&own_folder), &info);
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/'));
}

std::string hash(const std::string& text) {
  // FNV-1a twice, with different starts: 128 bits, for a cache that nobody attacks.
  std::uint64_t first = 0xcbf29ce484222325u, second = 0x84222325cbf29ce4u;
  for (const char c : text) {
    first = (first ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    second = (second ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    second ^= second >> 29;
  }
  char digits[33];
  std::snprintf(digits, sizeof digits, "%016llx%016llx", static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(second));
  return digits;
}

// NVRTC finds no header of the system.
bool has_include(const Program& program, std::string* log) {
  std::istringstream lines(program.source);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::size_t start = line.find_first_not_of(" \t");
    if (start == std::string::npos || line[start] != '#') continue;
    const std::size_t word = line.find_first_not_of(" \t", start + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    *log = program.name + "(" + std::to_string(number) +
           "): catastrophic error: no headers are given to NVRTC, so this cannot be opened: " + line + "\n";
    return true;
  }
  return false;
}

nvrtcResult compile(Program& program) {
  if (has_include(program, &program.log)) return NVRTC_ERROR_COMPILATION;
  const std::string folder = own_folder();
  std::string key = program.name + '\0' + program.source + '\0' + std::to_string(program.options.architecture);
  for (const std::string& definition : program.options.definitions) key += '\0' + definition;
  const std::string kept = folder + "/program-" + hash(key) + ".so";
  program.library = read_file(kept);
  if (!program.library.empty()) return NVRTC_SUCCESS;

  TemporaryFolder temporary;
  const std::string source = temporary.file("source.cu"), scanned = temporary.file("scanned"),
                    unit = temporary.file("unit.cpp");
  const std::string log = temporary.file("log"), object = temporary.file("object.o"),
                    library = temporary.file("library.so");
  const std::string architecture = "-D__CUDA_ARCH__=" + std::to_string(program.options.architecture * 10);
  if (!write_file(source, "#line 1 \"" + program.name + "\"\n" + program.source + "\n"))
    return NVRTC_ERROR_INTERNAL_ERROR;

  // First the preprocessor alone, without the device header, so that __global__ is still to be seen.
  std::vector<std::string> command = {
      "c++", "-E", "-P", "-w", "-x", "c++", "-std=c++17", "-DFINEGRAIN_EMULATOR=1", "-D__CUDACC_RTC__=1", architecture};
  command.insert(command.end(), program.options.definitions.begin(), program.options.definitions.end());
  command.push_back(source);
  if (run_command(command, scanned) != 0) {
    program.log = read_file(scanned);
    return NVRTC_ERROR_COMPILATION;
  }
  const std::vector<FoundKernel> kernels = find_kernels(read_file(scanned));
  if (kernels.empty()) {
    program.log = program.name + ": the emulator finds no kernel: extern \"C\" __global__ void NAME(...)\n";
    return NVRTC_ERROR_COMPILATION;
  }

  std::string text = "#include \"" + source + "\"\n#line 1 \"emulator's table of kernels\"\nextern \"C\" {\n";
  text += "EMULATOR_EXPORT extern const emulator::Kernel finegrain_emulator_kernels[] = {\n";
  for (const FoundKernel& kernel : kernels) {
    text += "emulator::describe_kernel<decltype(&" + kernel.name + "), &" + kernel.name + ">(\"" + kernel.name + "\"" +
            (kernel.launch_bounds.empty() ? "" : ", static_cast<unsigned>(" + kernel.launch_bounds + ")") + "),\n";
  }
  text += "};\nEMULATOR_EXPORT extern const unsigned long finegrain_emulator_kernel_count = " +
          std::to_string(kernels.size()) + ";\n";
  text +=
      "EMULATOR_EXPORT void* finegrain_emulator_touch() { static thread_local unsigned char anchor[16]; return anchor; "
      "}\n}\n";
  if (!write_file(unit, text)) return NVRTC_ERROR_INTERNAL_ERROR;
  command = {"c++",
             "-c",
             "-O2",
             "-g1",
             "-std=c++17",
             "-fPIC",
             "-fvisibility=hidden",
             "-ffp-contract=off",
             "-D__CUDACC_RTC__=1",
             architecture,
             "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero",
             "-include",
             folder + "/device.hpp"};
  command.insert(command.end(), program.options.definitions.begin(), program.options.definitions.end());
  command.insert(command.end(), {unit, "-o", object});
  const int status = run_command(command, log);
  program.log = read_file(log);
  if (status == 127) program.log += "c++ cannot be started\n";
  if (status != 0) return NVRTC_ERROR_COMPILATION;
  // Linked without the sanitizers' own library: libcuda has what they call (undefined.cpp).
  command = {
      "c++", "-shared", object, "-o", library, folder + "/libcuda.so.1", "-Wl,-rpath," + folder, "-Wl,--no-undefined"};
  if (run_command(command, log) != 0) {
    program.log += read_file(log);
    return NVRTC_ERROR_COMPILATION;
  }
  program.library = read_file(library);
  // Whole or not at all: another process may read it at any moment.
  const std::string part = kept + "." + std::to_string(getpid()) + "." + hash(library);
  if (write_file(part, program.library)) std::rename(part.c_str(), kept.c_str());
  return NVRTC_SUCCESS;
}

std::string image(const Program& program, bool as_ptx) {
  ImageHeader header{};
  std::memcpy(header.magic, image_magic, sizeof image_magic);
  std::snprintf(header.build, sizeof header.build, "%s", FINEGRAIN_EMULATOR_BUILD);
  header.bytes = program.library.size();
  header.architecture = static_cast<std::uint32_t>(program.options.architecture);
  header.is_ptx = as_ptx ? 1 : 0;
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + program.library;
}

// A real architecture has a CUBIN, a virtual one has not: NVRTC reports a size of 0 then.
std::string cubin(const Program& program) { return program.options.is_virtual ? "" : image(program, false); }

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}
EMULATOR_API const char* nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    case NVRTC_ERROR_INTERNAL_ERROR: return "NVRTC_ERROR_INTERNAL_ERROR";
    default: return "NVRTC_ERROR unknown";
  }
}
EMULATOR_API nvrtcResult nvrtcCreateProgram(Program** program, const char* source, const char* name, int headers,
                                            const char* const*, const char* const*) {
  if (program == nullptr || source == nullptr || headers != 0) return NVRTC_ERROR_INVALID_INPUT;
  *program = new Program{source, name == nullptr ? "default_program" : name, "", "", {}};
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcDestroyProgram(Program** program) {
  if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  program->options = read_options(count, options);
  if (!program->options.unknown.empty()) {
    program->log = "nvrtc: error: unrecognized option " + program->options.unknown + " found\n";
    return NVRTC_ERROR_INVALID_OPTION;
  }
  return compile(*program);
}
EMULATOR_API nvrtcResult nvrtcGetProgramLogSize(Program* program, std::size_t* bytes) {
  *bytes = program->log.size() + 1;
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcGetProgramLog(Program* program, char* log) {
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcGetCUBINSize(Program* program, std::size_t* bytes) {
  if (program->library.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = cubin(*program).size();
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcGetCUBIN(Program* program, char* bytes) {
  if (program->library.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  const std::string whole = cubin(*program);
  std::memcpy(bytes, whole.data(), whole.size());
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcGetPTXSize(Program* program, std::size_t* bytes) {
  if (program->library.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = image(*program, true).size();
  return NVRTC_SUCCESS;
}
EMULATOR_API nvrtcResult nvrtcGetPTX(Program* program, char* bytes) {
  if (program->library.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  const std::string whole = image(*program, true);
  std::memcpy(bytes, whole.data(), whole.size());
  return NVRTC_SUCCESS;
}
