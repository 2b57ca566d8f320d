// Included before every kernel source: the CUDA C++ of finegrain's kernels, for g++.
#pragma once

#include "lane.hpp"
#include "unpack.hpp"

#include "numbers.hpp"
#include "atomics.hpp"
#include "tensor_core.hpp"
#include "warp.hpp"
// Last: its macros are names in the C library's headers.
#include "words.hpp"
