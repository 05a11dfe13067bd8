// A device that is not the CPU, though its memory is: "far", for machines without a GPU.
//
// Each call is run on the CPU and its results are brought back. As on a GPU, tensors of two devices
// may not meet in one call, but single numbers; nor is an index or a copy such a meeting.

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <cstring>

namespace {

using at::Tensor;
using c10::DeviceType;
using c10::IntArrayRef;
using c10::SymIntArrayRef;

constexpr DeviceType kFar = DeviceType::PrivateUse1;
const c10::Device there(kFar, 0);

// One device with one stream, on which everything is done as it is asked for.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kFar; }
  c10::Device exchangeDevice(c10::Device) const override { return there; }
  c10::Device getDevice() const override { return there; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return only(); }
  c10::Stream getNewStream(c10::Device, int) const override { return only(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  static c10::Stream only() noexcept { return c10::Stream(c10::Stream::DEFAULT, there); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Memory final : at::Allocator {
  at::DataPtr allocate(size_t count) override {
    void* place = c10::alloc_cpu(count);
    return {place, place, &give_back, there};
  }
  static void give_back(void* place) {
    if (place) c10::free_cpu(place);
  }
  at::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t count) const final {
    std::memcpy(to, from, count);
  }
};
Memory memory;
REGISTER_ALLOCATOR(kFar, &memory);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void init() const override {}
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t count) const override {
    auto place = memory.allocate(count);
    std::memcpy(place.get(), storage.data(), std::min(count, storage.nbytes()));
    const_cast<c10::Storage&>(storage).set_data_ptr(std::move(place));
    const_cast<c10::Storage&>(storage).set_nbytes(count);
  }
};
Hooks hooks;
const bool hooked = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// A tensor of the CPU over the same memory.
Tensor near(const Tensor& tensor) {
  if (tensor.device().type() != kFar) return tensor;
  const auto& storage = tensor.storage();
  at::DataPtr place(const_cast<void*>(storage.data()), c10::Device(c10::kCPU));
  c10::Storage same(
      c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(place), nullptr, false);
  auto options = at::TensorOptions().dtype(tensor.scalar_type());
  return at::empty({0}, options)
      .set_(same, tensor.storage_offset(), tensor.sizes(), tensor.strides());
}

void refuse(const std::string& what) {
  TORCH_CHECK(false, "expected all tensors on one device, got two in ", what);
}

c10::DispatchKeySet keys() { return c10::DispatchKeySet(c10::DispatchKey::PrivateUse1); }

c10::ScalarType kind(std::optional<c10::ScalarType> given) {
  return given.value_or(at::get_default_dtype_as_scalartype());
}

Tensor empty(
    IntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
    std::optional<c10::Device>, std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, keys(), kind(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, keys(), kind(dtype));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  near(to).copy_(near(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (from.sizes() != to.sizes()) at::native::resize_(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar item(const Tensor& tensor) { return near(tensor).item(); }

Tensor& fill(Tensor& tensor, const at::Scalar& value) {
  near(tensor).fill_(value);
  return tensor;
}

Tensor& set_storage(
    Tensor& tensor, at::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  return at::native::set_storage_cpu_(tensor, storage, offset, size, stride);
}

const Tensor& resize(
    const Tensor& tensor, SymIntArrayRef size, std::optional<c10::MemoryFormat> format) {
  return at::native::resize_(tensor, C10_AS_INTARRAYREF_SLOW(size), format);
}

#define INTS(list) C10_AS_INTARRAYREF_SLOW(list)

Tensor convolution(
    const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
    SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation, bool transposed,
    SymIntArrayRef output_padding, c10::SymInt groups) {
  const bool biased = bias.has_value() && bias->defined();
  if (input.device() != weight.device() || (biased && bias->device() != input.device())) {
    refuse("a convolution");
  }
  const auto added = biased ? std::optional<Tensor>(near(*bias)) : std::nullopt;
  return at::convolution(
             near(input), near(weight), added, INTS(stride), INTS(padding), INTS(dilation),
             transposed, INTS(output_padding), groups.expect_int())
      .to(input.device());
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, SymIntArrayRef stride,
    SymIntArrayRef padding, SymIntArrayRef dilation, bool transposed,
    SymIntArrayRef output_padding, c10::SymInt groups, std::array<bool, 3> mask) {
  if (input.device() != weight.device() || gradient.device() != input.device()) {
    refuse("the gradient of a convolution");
  }
  const int64_t count = transposed ? weight.size(1) * groups.expect_int() : weight.size(0);
  const auto found = at::convolution_backward(
      near(gradient), near(input), near(weight), IntArrayRef(&count, 1), INTS(stride),
      INTS(padding), INTS(dilation), transposed, INTS(output_padding), groups.expect_int(), mask);
  const auto back = [&](const Tensor& each) {
    return each.defined() ? each.to(input.device()) : each;
  };
  return {back(std::get<0>(found)), back(std::get<1>(found)), back(std::get<2>(found))};
}

// Everything else.
void on_the_cpu(const c10::OperatorHandle& call, torch::jit::Stack* stack) {
  const auto& name = call.schema().name();
  const auto count = call.schema().arguments().size();
  bool far = false, cpu = false;
  const auto meet = [&](const Tensor& tensor) {
    if (!tensor.defined()) return;
    far |= tensor.device().type() == kFar;
    cpu |= tensor.device().type() == c10::kCPU && tensor.dim() > 0;
  };
  for (size_t i = stack->size() - count; i < stack->size(); i++) {
    const auto& value = (*stack)[i];
    if (value.isTensor()) meet(value.toTensor());
    if (value.isTensorList()) {
      for (const auto& each : value.toTensorVector()) meet(each);
    }
  }
  if (far && cpu && name.find("index") == std::string::npos) refuse(name);
  at::native::cpu_fallback(call, stack, false);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("convolution_overrideable", &convolution);
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("fill_.Scalar", &fill);
  m.impl("resize_", &resize);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("unfold", at::native::unfold);
  m.impl("view", at::native::view);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

TORCH_LIBRARY_IMPL(_, AutogradPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

}  // namespace
