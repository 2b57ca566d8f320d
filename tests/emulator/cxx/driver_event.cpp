// Events: points in a stream, and the time between two of them.
#include "driver.hpp"

using namespace emulator;

namespace {
Event* find_event(void* handle, const char* call) {
  if (Driver::get().events.count(handle) != 0) return static_cast<Event*>(handle);
  refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no event", call, handle);
  return nullptr;
}
}  // namespace

EMULATOR_API CUresult cuEventCreate(void** handle, unsigned flags) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuEventCreate")) return error;
  auto* event = new Event;
  event->times = (flags & 2) == 0;
  Driver::get().events.insert(event);
  *handle = event;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuEventDestroy_v2(void* handle) {
  const Guard guard(Driver::get().mutex);
  Event* event = find_event(handle, "cuEventDestroy");
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Driver::get().events.erase(handle);
  delete event;
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuEventRecord(void* handle, void* stream_handle) {
  const Guard guard(Driver::get().mutex);
  if (const CUresult error = check_context("cuEventRecord")) return error;
  Event* event = find_event(handle, "cuEventRecord");
  Stream* stream = find_stream(stream_handle, "cuEventRecord");
  if (event == nullptr || stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->status == capture_invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  event->recorded = true;
  event->captured_in = stream->recorded;  // null outside of a capture
  event->time = std::chrono::steady_clock::now();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuEventQuery(void* handle) {
  const Guard guard(Driver::get().mutex);
  const Event* event = find_event(handle, "cuEventQuery");
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return event->captured_in == nullptr
             ? CUDA_SUCCESS
             : refuse(CUDA_ERROR_CAPTURED_EVENT, "cuEventQuery of an event that was recorded in a capture");
}
EMULATOR_API CUresult cuEventSynchronize(void* handle) {
  const Guard guard(Driver::get().mutex);
  const Event* event = find_event(handle, "cuEventSynchronize");
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return event->captured_in == nullptr
             ? CUDA_SUCCESS
             : refuse(CUDA_ERROR_CAPTURED_EVENT, "cuEventSynchronize of an event that was recorded in a capture");
}
EMULATOR_API CUresult cuEventElapsedTime_v2(float* milliseconds, void* start_handle, void* end_handle) {
  const Guard guard(Driver::get().mutex);
  const Event* start = find_event(start_handle, "cuEventElapsedTime");
  const Event* end = find_event(end_handle, "cuEventElapsedTime");
  if (start == nullptr || end == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!start->times || !end->times)
    return refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventElapsedTime: an event was created without timing");
  if (!start->recorded || !end->recorded)
    return refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventElapsedTime: an event was never recorded");
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return CUDA_SUCCESS;
}
EMULATOR_API CUresult cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
