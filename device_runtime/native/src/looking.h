// Looking at pictures: read, decode, and pass through the body, each picture once.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bundle.h"
#include "class_folder.h"
#include "profile.h"

namespace fbkit {

// Seconds by stage.
class StopWatch {
 public:
  void lap(const std::string& stage);
  const std::map<std::string, double>& laps() const { return laps_; }

 private:
  std::map<std::string, double> laps_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Hears how many of how many pictures were looked at.
using Progress = std::function<void(std::size_t done, std::size_t all)>;

// Features [N, F] of pictures, some at a time, so that memory holds few pictures. Throws UserError.
Matrix glance_at(const Bundle& bundle, const std::vector<Path>& pictures, const Progress& progress);

// The same of pictures that come to be remembered, but for what profile (none: null) knows. A picture that comes twice
// counts once. Throws UserError, also where it comes with two classes.
Arrived look_at_new(const Bundle& bundle, Profile* profile, const std::vector<LabelledPicture>& pictures,
                    const Progress& progress, StopWatch& watch);

}  // namespace fbkit
