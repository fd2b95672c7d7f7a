#include "class_folder.h"

#include <algorithm>
#include <cctype>
#include <functional>

#include "errors.h"

namespace fbkit {
namespace {

bool is_folder(const Path& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

bool is_file(const Path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// By name, which as UTF-8 is by code point; hidden ones left out.
std::vector<Path> sorted_in(const Path& folder, const std::function<bool(const Path&)>& is_wanted) {
  std::vector<Path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().filename().string()[0] != '.' && is_wanted(entry.path())) paths.push_back(entry.path());
  }
  if (error) throw UserError(folder.string() + ": cannot be read (" + error.message() + ")");
  std::sort(paths.begin(), paths.end(),
            [](const Path& one, const Path& other) { return one.native() < other.native(); });
  return paths;
}

// Not what systems leave in folders of pictures.
bool is_picture(const Path& path) {
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) { return std::tolower(letter); });
  return is_file(path) && name != "thumbs.db" && name != "desktop.ini";
}

std::string some_of(const std::vector<std::string>& classes) {
  std::string text;
  for (std::size_t place = 0; place < std::min<std::size_t>(classes.size(), 12); ++place) {
    text += (place ? ", " : "") + classes[place];
  }
  return text + (classes.size() > 12 ? " ..." : "");
}

}  // namespace

std::vector<LabelledPicture> read_class_folder(const Path& folder, const std::vector<std::string>& classes,
                                               bool new_classes) {
  const std::string at = folder.string() + ": ";
  if (!is_folder(folder)) {
    throw UserError(at + "no such folder; expected one with a folder of pictures for each class");
  }
  std::vector<LabelledPicture> pictures;
  for (const Path& class_folder : sorted_in(folder, is_folder)) {
    const std::string label = class_folder.filename().string();
    if (!new_classes && std::find(classes.begin(), classes.end(), label) == classes.end()) {
      throw UserError(class_folder.string() + ": '" + label +
                      "' is not a class of this bundle; its classes: " + some_of(classes));
    }
    for (const Path& path : sorted_in(class_folder, is_picture)) pictures.push_back({path, label});
  }
  if (!pictures.empty()) return pictures;
  if (!sorted_in(folder, is_file).empty()) {
    throw UserError(at + "has files but no folder named after a class; give the folder above, or sort them");
  }
  throw UserError(at + "holds no pictures; expected " + folder.string() + "/CLASS/PICTURE with CLASS such as '" +
                  classes[0] + "'");
}

}  // namespace fbkit
