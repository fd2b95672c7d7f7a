// A .pte file on ExecuTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace fbkit {

// One input or output: float32, or int64 for labels.
struct Tensor {
  std::vector<int> shape;
  std::vector<float> floats;
  std::vector<std::int64_t> integers;
};

class Program {
 public:
  // data is a .pte file's bytes; name stands for it in messages. Throws UserError if it cannot be loaded.
  Program(std::vector<std::uint8_t> data, std::string name);
  ~Program();

  // All outputs must be float32. Throws UserError if the method is not there, or does not take the inputs.
  std::vector<Tensor> run(const std::string& method, const std::vector<Tensor>& inputs);

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
  std::string name_;
};

}  // namespace fbkit
