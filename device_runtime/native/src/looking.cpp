#include "looking.h"

#include <algorithm>

#include "errors.h"

namespace fbkit {
namespace {

constexpr std::uint64_t kMostPictureBytes = UINT64_C(2) << 30;

Bytes read_picture(const Path& path) {
  std::error_code error;
  const Path real = std::filesystem::canonical(path, error);  // a picture may be a link
  return read_plain(error ? path : real, kMostPictureBytes);
}

// For each digest where it came first, in that order.
std::vector<std::size_t> each_once(const std::vector<std::string>& digests,
                                   const std::vector<LabelledPicture>& pictures) {
  std::map<std::string, std::size_t> first;
  std::vector<std::size_t> places;
  for (std::size_t place = 0; place < digests.size(); ++place) {
    const auto [found, is_new] = first.emplace(digests[place], place);
    if (is_new) places.push_back(place);
    const LabelledPicture &here = pictures[place], &there = pictures[found->second];
    if (here.label != there.label) {
      throw UserError(here.path.string() + ": is '" + here.label + "' here, and '" + there.label + "' as " +
                      there.path.string() + "; remove one of the two");
    }
  }
  return places;
}

}  // namespace

void StopWatch::lap(const std::string& stage) {
  const auto now = std::chrono::steady_clock::now();
  laps_[stage] += std::chrono::duration<double>(now - last_).count();
  last_ = now;
}

Matrix glance_at(const Bundle& bundle, const std::vector<Path>& pictures, const Progress& progress) {
  const auto at_once = static_cast<std::size_t>(bundle.manifest().input.at_once());
  Matrix features(static_cast<Index>(pictures.size()), bundle.manifest().features);
  for (std::size_t first = 0; first < pictures.size(); first += at_once) {
    std::vector<Pixels> decoded;
    for (std::size_t place = first; place < std::min(first + at_once, pictures.size()); ++place) {
      decoded.push_back(bundle.decode(read_picture(pictures[place]), pictures[place].string()));
      progress(place + 1, pictures.size());
    }
    features.middleRows(static_cast<Index>(first), static_cast<Index>(decoded.size())) = bundle.features(decoded);
  }
  return features;
}

Arrived look_at_new(const Bundle& bundle, Profile* profile, const std::vector<LabelledPicture>& pictures,
                    const Progress& progress, StopWatch& watch) {
  const bool keep = profile && profile->state().keep_pictures;
  std::map<std::string, Vector> known;
  if (profile) {
    const Memory memory = profile->memory();
    for (const auto& [digest, row] : memory.rows_by_digest()) {
      if (!keep || profile->keeps(digest)) known[digest] = memory.features.row(static_cast<Index>(row));
    }
  }
  Arrived arrived;
  std::vector<std::string> digests;
  const auto at_once = static_cast<std::size_t>(bundle.manifest().input.at_once());
  for (std::size_t first = 0; first < pictures.size(); first += at_once) {
    std::vector<std::string> added;
    std::vector<Pixels> decoded;
    for (std::size_t place = first; place < std::min(first + at_once, pictures.size()); ++place) {
      Bytes content = read_picture(pictures[place].path);
      digests.push_back(sha256(content));
      const std::string& digest = digests.back();
      if (!known.count(digest) && std::find(added.begin(), added.end(), digest) == added.end()) {
        decoded.push_back(bundle.decode(content, pictures[place].path.string()));
        added.push_back(digest);
        if (keep) arrived.contents[digest] = std::move(content);
      }
      progress(place + 1, pictures.size());
    }
    watch.lap("decode");
    if (!decoded.empty()) {
      const Matrix features = bundle.features(decoded);
      for (std::size_t place = 0; place < added.size(); ++place)
        known[added[place]] = features.row(static_cast<Index>(place));
      arrived.computed += added.size();
    }
    watch.lap("body");
  }
  const auto places = each_once(digests, pictures);
  Matrix features(static_cast<Index>(places.size()), bundle.manifest().features);
  for (const std::size_t place : places) {
    const auto row = static_cast<Index>(arrived.digests.size());
    features.row(row) = known.at(digests[place]);
    if (!features.row(row).allFinite()) {
      throw UserError(pictures[place].path.string() + ": the body gives values that are not finite for it");
    }
    arrived.names.push_back(pictures[place].path.string());
    arrived.digests.push_back(digests[place]);
    arrived.labels.push_back(pictures[place].label);
  }
  arrived.features = as_stored(features);
  return arrived;
}

}  // namespace fbkit
