#include "bundle.h"

#include <unistd.h>

#include "errors.h"
#include "picture.h"
#include "resize.h"
#include "safetensors.h"
#include "signature.h"
#include "trial.h"
#include "verdicts.h"

namespace fbkit {
namespace {

constexpr std::uint64_t kMostSmallFile = 64 * 1024 * 1024;
constexpr std::int64_t kMostProbe = 256;

std::uint64_t physical_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) * static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
}

// What a file of this kind can need, so that nothing absurd is read. A manifest bounds the two that are left.
std::uint64_t most_bytes(const Manifest& manifest, const std::string& name) {
  if (name == manifest.body || name == manifest.model) return manifest.files.at(name).bytes;
  const auto classes = manifest.classes.size(), features = static_cast<std::size_t>(manifest.features);
  const auto pixels = static_cast<std::size_t>(manifest.input.height) * static_cast<std::size_t>(manifest.input.width) *
                      static_cast<std::size_t>(manifest.input.channels);
  std::uint64_t numbers = 4 * classes * (features + 1);  // a training module's; more than a head's
  if (name == manifest.probe) numbers = static_cast<std::uint64_t>(kMostProbe) * (2 * pixels + features + classes);
  return 4 * numbers + kMostSmallFile;
}

Bytes read_file(const Path& folder, const Manifest& manifest, const std::string& name) {
  const std::string path = (folder / name).string(), advice = "copy the bundle again";
  const FileEntry& entry = manifest.files.at(name);
  if (entry.bytes > most_bytes(manifest, name)) {
    throw UserError(path + ": manifest.json gives it " + std::to_string(entry.bytes) + " bytes, which is too much");
  }
  Bytes data;
  try {
    data = read_plain(folder / name, entry.bytes);
  } catch (const UserError& error) {
    throw UserError(std::string(error.what()) + "; " + advice);
  }
  if (data.size() != entry.bytes) {
    const std::string found = data.size() > entry.bytes ? "more" : std::to_string(data.size());
    throw UserError(path + ": has " + found + " bytes, manifest.json says " + std::to_string(entry.bytes) + "; " +
                    advice);
  }
  if (sha256(data) != entry.sha256) {
    throw UserError(path + ": was altered, its SHA-256 is not the one in manifest.json; " + advice);
  }
  return data;
}

Matrix matrix_of(const StoredTensor& tensor) {
  const Index rows = tensor.rows(), values = static_cast<Index>(tensor.data.size() / sizeof(float));
  Matrix matrix(rows, rows ? values / rows : 0);
  tensor.copy_to(matrix.data());
  return matrix;
}

Probe probe_from_bytes(const Bytes& data, const Manifest& manifest, const std::string& origin) {
  const InputSpec& spec = manifest.input;
  const auto tensors = unpack_tensors(data,
                                      {{"pictures", {"U8", {-1, spec.height, spec.width, spec.channels}}},
                                       {"inputs", {"F32", {-1, spec.channels, spec.height, spec.width}}},
                                       {"features", {"F32", {-1, manifest.features}}},
                                       {"logits", {"F32", {-1, static_cast<std::int64_t>(manifest.classes.size())}}}},
                                      origin);
  const std::int64_t count = tensors.at("pictures").rows();
  bool as_many = count >= 2 && count <= kMostProbe;
  for (const auto& [name, tensor] : tensors) as_many = as_many && tensor.rows() == count;
  if (!as_many) {
    throw UserError(origin + ": must hold 2 to " + std::to_string(kMostProbe) +
                    " pictures, and as many inputs, features and logits");
  }
  Probe probe{{}, matrix_of(tensors.at("inputs")), matrix_of(tensors.at("features")), matrix_of(tensors.at("logits"))};
  auto at = tensors.at("pictures").data.begin();
  for (std::int64_t place = 0; place < count; ++place) {
    Pixels picture(spec.width, spec.height, spec.channels);
    std::copy_n(at, picture.data.size(), picture.data.begin());
    at += static_cast<std::ptrdiff_t>(picture.data.size());
    probe.pictures.push_back(std::move(picture));
  }
  return probe;
}

}  // namespace

Contents read_contents(const Path& folder, const std::optional<Path>& signed_by) {
  const Path path = folder / "manifest.json";
  if (!std::filesystem::is_directory(folder)) {
    throw UserError(folder.string() + ": no such folder; give a bundle that fbkit export --target executorch wrote");
  }
  const Bytes listed = read_plain(path, kMostJsonBytes);
  if (signed_by) check_signature(listed, folder, *signed_by);
  Contents contents;
  contents.folder = folder;
  contents.manifest = parse_manifest(listed, path);
  contents.digest = sha256(listed);
  const Manifest& manifest = contents.manifest;
  std::uint64_t size = 0;
  for (const auto& [name, entry] : manifest.files) size += entry.bytes;
  if (size > physical_memory() / 2) {
    throw UserError(path.string() + ": its files have " + std::to_string(size) +
                    " bytes, too many for this machine's " + std::to_string(physical_memory()));
  }
  const auto classes = static_cast<Index>(manifest.classes.size());
  for (const auto& [name, entry] : manifest.files) {
    Bytes data = read_file(folder, manifest, name);
    const std::string origin = (folder / name).string();
    // One file may be named for two purposes by a hostile manifest; then one of the checks refuses it.
    if (name == manifest.head) contents.head = head_from_bytes(data, classes, manifest.features, origin);
    if (name == manifest.probe) contents.probe = probe_from_bytes(data, manifest, origin);
    if (name == manifest.body) contents.body = std::move(data);
  }
  return contents;
}

Bundle Bundle::open(const Path& folder, const std::optional<Path>& signed_by, bool always_try) {
  Contents contents = read_contents(folder, signed_by);
  if (always_try || !is_known_good(contents.digest)) {
    run_trial(contents);
    remember_good(contents.digest);
  }
  return Bundle(std::move(contents));
}

Bundle::Bundle(Contents contents) : contents_(std::make_unique<Contents>(std::move(contents))) {
  body_ = std::make_unique<Body>(std::move(contents_->body), manifest().body, manifest().features, manifest());
}

GraphStep Bundle::graph_step() const {
  return GraphStep(read_file(folder(), manifest(), manifest().head_step), manifest());
}

Body Bundle::model() const {
  const auto classes = static_cast<Index>(manifest().classes.size());
  return Body(read_file(folder(), manifest(), manifest().model), manifest().model, classes, manifest());
}

Pixels Bundle::decode(const Bytes& data, const std::string& name) const {
  const InputSpec& spec = manifest().input;
  return fit_picture(decode_picture(data, spec.channels, name), spec.height, spec.width);
}

Matrix Bundle::features(const std::vector<Pixels>& pictures) const {
  return body_->features(normalise(pictures, manifest().input));
}

}  // namespace fbkit
