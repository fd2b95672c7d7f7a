// A bundle: opened only when every file is what the manifest says and the body computes here what it computed there.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "body.h"
#include "graph_step.h"
#include "head.h"
#include "manifest.h"

namespace fbkit {

// What the exporting machine computed, for N pictures.
struct Probe {
  std::vector<Pixels> pictures;
  Matrix inputs, features, logits;  // [N, channels * height * width], [N, F], [N, classes]
};

// A bundle's files as they were read and found to be what the manifest says; nothing of them has run.
struct Contents {
  Path folder;
  Manifest manifest;
  std::string digest;  // SHA-256 of manifest.json, which holds those of all other files
  Bytes body;
  Head head;
  Probe probe;
};

// Throws UserError if a file is missing, of another size, altered or not what it must be, or the bundle is not signed
// by the public key in the file signed_by.
Contents read_contents(const Path& folder, const std::optional<Path>& signed_by);

class Bundle {
 public:
  // A bundle that this machine has not found good before runs in a process of its own first; with always_try, every
  // one. Throws UserError as read_contents, or if it cannot be loaded, or the self-test fails.
  static Bundle open(const Path& folder, const std::optional<Path>& signed_by, bool always_try = false);

  // Loads the body in this process, which a hostile one can crash. Throws UserError.
  explicit Bundle(Contents contents);

  const Path& folder() const { return contents_->folder; }
  const Manifest& manifest() const { return contents_->manifest; }
  const Head& head() const { return contents_->head; }
  const Probe& probe() const { return contents_->probe; }
  Body& body() const { return *body_; }
  GraphStep graph_step() const;
  // Body and head in one; only where the manifest names it.
  Body model() const;

  Pixels decode(const Bytes& data, const std::string& name) const;
  // Pictures as decode gives them to [N, F].
  Matrix features(const std::vector<Pixels>& pictures) const;

 private:
  std::unique_ptr<Contents> contents_;
  std::unique_ptr<Body> body_;
};

}  // namespace fbkit
