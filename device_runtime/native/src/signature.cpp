#include "signature.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "fields.h"

namespace fbkit {
namespace {

constexpr std::uint64_t kMostBytes = 10'000;
constexpr const char* kSignedFor =
    "fbkit bundle signature 1\n";  // no signature made for anything else is one for a bundle

// SubjectPublicKeyInfo of Ed25519 (RFC 8410): always these bytes, then the key.
const Bytes kKeyPrefix = {0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00};

Bytes read_public_key(const Path& path) {
  const Bytes data = read_plain(std::filesystem::exists(path) ? std::filesystem::canonical(path) : path, kMostBytes);
  const std::string text(data.begin(), data.end()), start = "-----BEGIN PUBLIC KEY-----",
                                                    end = "-----END PUBLIC KEY-----";
  const auto first = text.find(start), last = text.find(end);
  Bytes key(kKeyPrefix.size() + crypto_sign_PUBLICKEYBYTES);
  std::size_t length = 0;
  const bool is_key =
      first != std::string::npos && last != std::string::npos && last > first &&
      !sodium_base642bin(key.data(), key.size(), text.data() + first + start.size(), last - first - start.size(),
                         "\r\n ", &length, nullptr, sodium_base64_VARIANT_ORIGINAL) &&
      length == key.size() && std::equal(kKeyPrefix.begin(), kKeyPrefix.end(), key.begin());
  if (!is_key) {
    throw UserError(path.string() + ": not a public Ed25519 key in PEM; make a pair with: fbkit keygen KEY");
  }
  return Bytes(key.begin() + static_cast<std::ptrdiff_t>(kKeyPrefix.size()), key.end());
}

Bytes hex_in(const Fields& fields, const std::string& key, std::size_t length) {
  const std::string text = fields.text(key);
  const bool is_hex = text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (text.size() != 2 * length || !is_hex) {
    throw fields.error(key, "must be " + std::to_string(2 * length) + " hexadecimal digits");
  }
  return from_hex(text);
}

}  // namespace

void check_signature(const Bytes& manifest, const Path& bundle, const Path& trusted) {
  const Bytes key = read_public_key(trusted);
  const Path path = bundle / "signature.json";
  if (!std::filesystem::exists(std::filesystem::symlink_status(path))) {
    throw UserError(path.string() + ": is missing, and the bundle must be signed by " + trusted.string() +
                    "; get a signed bundle");
  }
  const Bytes data = read_plain(path, kMostBytes);
  if (data.size() > kMostBytes) {
    throw UserError(path.string() + ": larger than " + std::to_string(kMostBytes) + " bytes, so not a signature");
  }
  const Json json = parse_json(data, path);
  const Fields fields(path, "", json);
  if (fields.text("schema") != "fbkit.signature" || fields.integer("version", 1, 1'000'000) != 1) {
    throw UserError(path.string() + ": not a signature of version 1, which this fbkit-device reads; upgrade it");
  }
  if (hex_in(fields, "public_key", crypto_sign_PUBLICKEYBYTES) != key) {
    throw UserError(path.string() + ": the bundle is signed with another key than " + trusted.string() +
                    "; do not use it");
  }
  Bytes message(kSignedFor, kSignedFor + std::strlen(kSignedFor));
  message.insert(message.end(), manifest.begin(), manifest.end());
  const Bytes signature = hex_in(fields, "signature", crypto_sign_BYTES);
  if (crypto_sign_verify_detached(signature.data(), message.data(), message.size(), key.data())) {
    throw UserError(path.string() +
                    ": is not a signature of this manifest.json, one of the two was altered; do not use the bundle");
  }
}

}  // namespace fbkit
