// What g++'s sanitizers call (kernels are compiled with -fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero):
// accesses that fault on a GPU, or that give another result there, end the launch. The descriptions' layouts are those of
// GCC's libubsan, which is not linked.
#include <cstdint>
#include <cstdio>

#include "lane.hpp"

namespace {

struct SourceLocation {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
};

struct TypeName {  // behind it: the name, ending with a null
  std::uint16_t kind;
  std::uint16_t information;
  char name[1];
};

struct TypeMismatch {
  SourceLocation location;
  const TypeName* type;
  unsigned char log_alignment;
  unsigned char check;
};

struct OutOfBounds {
  SourceLocation location;
  const TypeName* array;
  const TypeName* index;
};

}  // namespace

extern "C" {

EMULATOR_EXPORT void __ubsan_handle_type_mismatch_v1(const TypeMismatch* what, std::uintptr_t address) {
  char text[256];
  std::snprintf(text, sizeof text, "misaligned access: address %#zx for %s, which needs a multiple of %d",
                static_cast<std::size_t>(address), what->type->name, 1 << what->log_alignment);
  finegrain_emulator_fail(text, static_cast<int>(what->location.line));
}
EMULATOR_EXPORT void __ubsan_handle_out_of_bounds(const OutOfBounds* what, std::uintptr_t index) {
  char text[256];
  std::snprintf(text, sizeof text, "index %lld of an array %s", static_cast<long long>(index), what->array->name);
  finegrain_emulator_fail(text, static_cast<int>(what->location.line));
}
EMULATOR_EXPORT void __ubsan_handle_shift_out_of_bounds(const SourceLocation* where, std::uintptr_t, std::uintptr_t) {
  finegrain_emulator_fail("a shift by a negative number of bits, or by as many as the type has",
                          static_cast<int>(where->line));
}
EMULATOR_EXPORT void __ubsan_handle_divrem_overflow(const SourceLocation* where, std::uintptr_t, std::uintptr_t) {
  finegrain_emulator_fail("an integer division by zero, or one that overflows", static_cast<int>(where->line));
}
}
