// A .pte file on ExecuTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "matrix.h"

namespace fbkit {

// An input: a view of values that must stay while the method runs. float32, or int64 for labels.
struct Input {
  std::vector<int> shape;
  const float* floats = nullptr;
  const std::int64_t* integers = nullptr;
};

struct Output {
  std::vector<int> shape;
  std::vector<float> values;
};

class Program {
 public:
  // data is a .pte file's bytes; name stands for it in messages. Throws UserError if it cannot be loaded.
  Program(std::vector<std::uint8_t> data, std::string name);
  Program(Program&& other) noexcept;
  ~Program();

  // Throws UserError if the method is not there, does not take the inputs, or gives something other than float32.
  std::vector<Output> run(const std::string& method, const std::vector<Input>& inputs);

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
  std::string name_;
};

}  // namespace fbkit
