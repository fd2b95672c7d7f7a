#include "program.h"

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>

#include "errors.h"

namespace fbkit {

namespace et = executorch::extension;
using executorch::aten::ScalarType;
using executorch::runtime::Error;
using executorch::runtime::EValue;

// The bytes stay for as long as the module: it points into them.
struct Program::Loaded {
  std::vector<std::uint8_t> data;
  std::unique_ptr<et::Module> module;
};

Program::Program(std::vector<std::uint8_t> data, std::string name)
    : loaded_(std::make_unique<Loaded>()), name_(std::move(name)) {
  executorch::runtime::runtime_init();
  loaded_->data = std::move(data);
  loaded_->module =
      std::make_unique<et::Module>(std::make_unique<et::BufferDataLoader>(loaded_->data.data(), loaded_->data.size()));
  const Error error = loaded_->module->load(executorch::runtime::Program::Verification::InternalConsistency);
  if (error != Error::Ok) {
    throw UserError(name_ + ": ExecuTorch cannot load it (error " + std::to_string(static_cast<int>(error)) + ")");
  }
}

Program::Program(Program&& other) noexcept = default;
Program::~Program() = default;

std::vector<Output> Program::run(const std::string& method, const std::vector<Input>& inputs) {
  std::vector<et::TensorPtr> held;
  std::vector<EValue> values;
  for (const Input& input : inputs) {
    const std::vector<executorch::aten::SizesType> sizes(input.shape.begin(), input.shape.end());
    // The API knows no constant views; nothing writes to an input.
    if (input.floats) {
      held.push_back(et::make_tensor_ptr(sizes, const_cast<float*>(input.floats), ScalarType::Float));
    } else {
      held.push_back(et::make_tensor_ptr(sizes, const_cast<std::int64_t*>(input.integers), ScalarType::Long));
    }
    values.emplace_back(*held.back());
  }
  const auto result = loaded_->module->execute(method, values);
  if (!result.ok()) {
    throw UserError(name_ + ": ExecuTorch cannot run its method " + method + " (error " +
                    std::to_string(static_cast<int>(result.error())) + ")");
  }
  std::vector<Output> outputs;
  for (const EValue& value : result.get()) {
    if (!value.isTensor() || value.toTensor().scalar_type() != ScalarType::Float) {
      throw UserError(name_ + ": its method " + method + " gives something other than float32");
    }
    const auto& tensor = value.toTensor();
    const float* floats = tensor.const_data_ptr<float>();
    outputs.push_back({{tensor.sizes().begin(), tensor.sizes().end()}, {floats, floats + tensor.numel()}});
  }
  return outputs;
}

}  // namespace fbkit
