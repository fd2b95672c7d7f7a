// Local data as people keep it: a folder with one folder of pictures for each class.
#pragma once

#include <string>
#include <vector>

#include "files.h"

namespace fbkit {

struct LabelledPicture {
  Path path;
  std::string label;
};

// The pictures of folder/class/picture, by class and name. Hidden files are passed over. Throws UserError: no such
// folder, a folder that is none of classes (unless new ones may come), or no pictures.
std::vector<LabelledPicture> read_class_folder(const Path& folder, const std::vector<std::string>& classes,
                                               bool new_classes);

}  // namespace fbkit
