// manifest.json of a bundle, checked. docs/bundle.md describes it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fields.h"

namespace fbkit {

struct InputSpec {
  int channels = 0, height = 0, width = 0;
  std::vector<double> mean, std;

  // How many pictures a body looks at together: few enough that large ones do not fill a small memory.
  int at_once() const;
};

struct FileEntry {
  std::uint64_t bytes = 0;
  std::string sha256;
};

// How to personalize where nobody says otherwise; the first four are SGD's.
struct Defaults {
  int epochs = 5;
  double lr = 0.01, momentum = 0.9;
  int batch_size = 50;
  double penalty = 1.0;
};

struct Manifest {
  int version = 0;
  std::string precision;
  std::vector<std::string> classes;
  InputSpec input;
  int features = 0;
  std::string body, head, head_step, probe;
  std::string model;              // body and head in one; empty where there is none
  std::vector<int> body_batches;  // rising; the first is 1
  int step_batch = 0, step_classes = 0;
  double tolerance = 0;
  std::map<std::string, FileEntry> files;
  Defaults personalization;
  std::string identity;  // a profile belongs to the identity that it was made with
};

// data is manifest.json's; path is for messages. Throws UserError, also for a bundle that is not for ExecuTorch.
Manifest parse_manifest(const Bytes& data, const Path& path);

// 2 to 100,000 different names of folders under "classes". Throws UserError.
std::vector<std::string> parse_classes(const Fields& top);

bool is_class_name(const std::string& name);

}  // namespace fbkit
