// Streams, events, capture and graphs.
#include "driver.hpp"

namespace emulator {

Stream* find_stream(void* handle, const char* call) {
  Driver& driver = Driver::get();
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  if (number <= 1) return &driver.legacy;
  if (number == 2) return &driver.per_thread;
  if (driver.streams.count(handle) != 0) return static_cast<Stream*>(handle);
  refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no stream", call, handle);
  return nullptr;
}

CUresult submit(void* handle, const char* call, Operation operation) {
  Driver& driver = Driver::get();
  const Guard guard(driver.mutex);
  if (const CUresult error = check_context(call)) return error;
  Stream* stream = find_stream(handle, call);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == capture_invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->status == capturing) {
    stream->recorded->push_back(std::move(operation));
    return CUDA_SUCCESS;
  }
  if (stream->legacy) {
    for (void* other_handle : driver.streams) {
      auto* other = static_cast<Stream*>(other_handle);
      if (!other->blocking || other->status != capturing) continue;
      other->status = capture_invalidated;
      return refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                    "%s on the null stream while a blocking stream is being captured", call);
    }
  }
  return operation();
}

CUresult check_capture_forbids(const char* call) {
  for (void* handle : Driver::get().streams) {
    auto* stream = static_cast<Stream*>(handle);
    if (stream->status != capturing || stream->mode == capture_relaxed) continue;
    if (stream->mode == capture_thread_local && stream->capturing_thread != std::this_thread::get_id()) continue;
    stream->status = capture_invalidated;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s while a stream is being captured", call);
  }
  return CUDA_SUCCESS;
}

namespace {

template <class T>
T* find(const std::unordered_set<void*>& alive, void* handle, const char* call, const char* what) {
  if (alive.count(handle) != 0) return static_cast<T*>(handle);
  refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no %s", call, handle, what);
  return nullptr;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EMULATOR_API CUresult cuStreamCreate(void** handle, unsigned flags) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuStreamCreate")) return error;
  if (flags > 1) return refuse(CUDA_ERROR_INVALID_VALUE, "cuStreamCreate: the flags are %u", flags);
  auto* stream = new Stream;
  stream->blocking = flags == 0;
  Driver::get().streams.insert(stream);
  *handle = stream;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamCreateWithPriority(void** handle, unsigned flags, int) {
  return cuStreamCreate(handle, flags);
}
EMULATOR_API CUresult cuStreamDestroy_v2(void* handle) {
  const Guard guard(Driver::get().mutex);
  auto* stream = find<Stream>(Driver::get().streams, handle, "cuStreamDestroy", "stream");
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Driver::get().streams.erase(handle);
  delete stream;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamSynchronize(void* handle) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuStreamSynchronize")) return error;
  Stream* stream = find_stream(handle, "cuStreamSynchronize");
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == capture_invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->status == capturing) {
    stream->status = capture_invalidated;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamSynchronize of a stream that is being captured");
  }
  return stream->legacy ? check_capture_forbids("cuStreamSynchronize of the null stream") : CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamQuery(void* handle) { return cuStreamSynchronize(handle); }
EMULATOR_API CUresult cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuStreamWaitEvent")) return error;
  Stream* stream = find_stream(handle, "cuStreamWaitEvent");
  auto* event = find<Event>(Driver::get().events, event_handle, "cuStreamWaitEvent", "event");
  if (stream == nullptr || event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == capture_invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!event->recorded) return CUDA_SUCCESS;  // waits for nothing
  if (stream->status == capturing && event->captured_in != stream->recorded) {
    stream->status = capture_invalidated;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                  "cuStreamWaitEvent: a captured stream cannot wait for an event from outside of the capture");
  }
  if (stream->status == not_capturing && event->captured_in != nullptr) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuStreamWaitEvent: captures of several streams are not emulated");
  }
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamBeginCapture_v2(void* handle, int mode) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuStreamBeginCapture")) return error;
  Stream* stream = find_stream(handle, "cuStreamBeginCapture");
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->legacy)
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamBeginCapture: the null stream cannot be captured");
  if (stream == &Driver::get().per_thread)
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuStreamBeginCapture: captures of the per-thread stream are not emulated");
  if (stream->status != not_capturing)
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuStreamBeginCapture: the stream is being captured already");
  if (mode < capture_global || mode > capture_relaxed)
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuStreamBeginCapture: mode %d", mode);
  stream->status = capturing;
  stream->mode = static_cast<CaptureMode>(mode);
  stream->capturing_thread = std::this_thread::get_id();
  stream->recorded = std::make_shared<Operations>();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamEndCapture(void* handle, void** graph_handle) {
  const Guard guard(Driver::get().mutex);
  *graph_handle = nullptr;
  Stream* stream = find_stream(handle, "cuStreamEndCapture");
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == not_capturing)
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuStreamEndCapture: the stream is not being captured");
  if (stream->mode != capture_relaxed && stream->capturing_thread != std::this_thread::get_id()) {
    return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                  "cuStreamEndCapture on another thread than cuStreamBeginCapture");
  }
  const bool valid = stream->status == capturing;
  stream->status = not_capturing;
  const std::shared_ptr<Operations> recorded = std::move(stream->recorded);
  stream->recorded = nullptr;
  if (!valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  auto* graph = new Graph{recorded};
  Driver::get().graphs.insert(graph);
  *graph_handle = graph;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuStreamIsCapturing(void* handle, int* status) {
  const Guard guard(Driver::get().mutex);
  const Stream* stream = find_stream(handle, "cuStreamIsCapturing");
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *status = stream->status;
  return CUDA_SUCCESS;
}

EMULATOR_API CUresult cuGraphGetNodes(void* handle, void** nodes, std::size_t* count) {
  const Guard guard(Driver::get().mutex);
  const auto* graph = find<Graph>(Driver::get().graphs, handle, "cuGraphGetNodes", "graph");
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (nodes != nullptr) return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuGraphGetNodes: only the count is emulated");
  *count = graph->operations->size();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGraphInstantiateWithFlags(void** executable, void* handle, unsigned long long flags) {
  const Guard guard(Driver::get().mutex);
  const auto* graph = find<Graph>(Driver::get().graphs, handle, "cuGraphInstantiate", "graph");
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // Free on launch (1), upload (2), launch from the device (4), priorities of nodes (8). 4 excludes the others.
  if (flags > 15 || ((flags & 4) != 0 && (flags & ~6ull) != 0))
    return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphInstantiate: the flags are %llu", flags);
  auto* made = new Executable{graph->operations};
  Driver::get().executables.insert(made);
  *executable = made;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGraphLaunch(void* handle, void* stream) {
  const Guard guard(Driver::get().mutex);
  const auto* executable = find<Executable>(Driver::get().executables, handle, "cuGraphLaunch", "executable graph");
  if (executable == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::shared_ptr<Operations> operations = executable->operations;
  return submit(stream, "cuGraphLaunch", [operations]() -> CUresult {
    for (const Operation& operation : *operations) {
      if (const CUresult error = operation()) return error;
    }
    return CUDA_SUCCESS;
  });
}
EMULATOR_API CUresult cuGraphUpload(void* handle, void*) {
  const Guard guard(Driver::get().mutex);
  return find<Executable>(Driver::get().executables, handle, "cuGraphUpload", "executable graph") == nullptr
             ? CUDA_ERROR_INVALID_VALUE
             : CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGraphExecDestroy(void* handle) {
  const Guard guard(Driver::get().mutex);
  auto* executable = find<Executable>(Driver::get().executables, handle, "cuGraphExecDestroy", "executable graph");
  if (executable == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Driver::get().executables.erase(handle);
  delete executable;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuGraphDestroy(void* handle) {
  const Guard guard(Driver::get().mutex);
  auto* graph = find<Graph>(Driver::get().graphs, handle, "cuGraphDestroy", "graph");
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Driver::get().graphs.erase(handle);
  delete graph;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
  return submit(stream, "cuLaunchHostFunc", [=]() -> CUresult {
    function(data);
    return CUDA_SUCCESS;
  });
}
