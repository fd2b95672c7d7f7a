#include "safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "errors.h"
#include "fields.h"

namespace fbkit {
namespace {

const std::map<std::string, std::uint64_t> kSizes = {{"F16", 2}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U8", 1}};
constexpr std::uint64_t kLengthBytes = 8;

std::uint64_t header_length(const Bytes& data) {
  std::uint64_t length = 0;
  for (int place = 7; place >= 0; --place) length = length << 8 | data[static_cast<std::size_t>(place)];
  return length;
}

bool is_finite_half(const std::uint8_t* bytes) { return (bytes[1] & 0x7C) != 0x7C; }  // an exponent of all ones is not

template <typename T>
bool all_finite(const Bytes& data) {
  for (std::size_t at = 0; at < data.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, &data[at], sizeof(T));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

bool is_finite(const StoredTensor& tensor) {
  if (tensor.dtype == "F32") return all_finite<float>(tensor.data);
  if (tensor.dtype == "F64") return all_finite<double>(tensor.data);
  if (tensor.dtype != "F16") return true;
  for (std::size_t at = 0; at < tensor.data.size(); at += 2) {
    if (!is_finite_half(&tensor.data[at])) return false;
  }
  return true;
}

// The tensors' places must follow each other without gap or overlap, from the header's end to the file's.
StoredTensors unpack(const Bytes& data, const std::string& origin) {
  const auto refuse = [&](const std::string& why) {
    return UserError(origin + ": not a whole safetensors file (" + why + ")");
  };
  if (data.size() < kLengthBytes) throw refuse("too short");
  const std::uint64_t length = header_length(data);
  if (length > data.size() - kLengthBytes) throw refuse("its header is longer than the file");
  const auto start = data.begin() + kLengthBytes;
  const Json header = parse_json(Bytes(start, start + static_cast<std::ptrdiff_t>(length)), origin);
  const std::uint64_t bytes = data.size() - kLengthBytes - length;
  const auto body = start + static_cast<std::ptrdiff_t>(length);
  StoredTensors tensors;
  std::map<std::uint64_t, std::uint64_t> places;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (!entry.is_object()) throw refuse("an entry is no object");
    const Fields fields(origin, name + ".", entry);
    const auto known = kSizes.find(fields.text("dtype"));
    if (known == kSizes.end()) throw refuse("a dtype that fbkit does not write");
    const auto shape = fields.integers("shape", 0, INT64_C(1) << 40);
    const auto ends = fields.integers("data_offsets", 0, INT64_C(1) << 40);
    if (ends.size() != 2 || ends[0] > ends[1] || static_cast<std::uint64_t>(ends[1]) > bytes) {
      throw refuse("a tensor lies outside the file");
    }
    std::uint64_t needed = known->second;
    for (const std::int64_t size : shape) {
      if (size && needed > bytes / static_cast<std::uint64_t>(size)) throw refuse("a tensor is larger than the file");
      needed *= static_cast<std::uint64_t>(size);
    }
    if (needed != static_cast<std::uint64_t>(ends[1] - ends[0])) throw refuse("a tensor's shape and size differ");
    if (needed && !places.emplace(ends[0], ends[1]).second) throw refuse("two tensors lie in one place");
    tensors[name] = {known->first, shape, Bytes(body + ends[0], body + ends[1])};
  }
  std::uint64_t at = 0;
  for (const auto& [first, end] : places) {
    if (first != at) throw refuse("its tensors leave a gap or overlap");
    at = end;
  }
  if (at != bytes) throw refuse("bytes that belong to no tensor");
  return tensors;
}

std::string in_words(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  std::string text = dtype + " [";
  for (const std::int64_t size : shape) text += (text.back() == '[' ? "" : ", ") + std::to_string(size);
  return text + "]";
}

bool fits(const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& wanted) {
  return found.size() == wanted.size() && std::equal(found.begin(), found.end(), wanted.begin(),
                                                     [](auto one, auto other) { return other == -1 || one == other; });
}

}  // namespace

StoredTensors unpack_tensors(const Bytes& data, const std::map<std::string, Wanted>& wanted,
                             const std::string& origin) {
  StoredTensors tensors = unpack(data, origin);
  bool same_names = tensors.size() == wanted.size();
  for (const auto& [name, unused] : wanted) same_names = same_names && tensors.count(name);
  if (!same_names) {
    std::string names;
    for (const auto& [name, unused] : wanted) names += (names.empty() ? "" : ", ") + name;
    throw UserError(origin + ": does not hold exactly the tensors " + names);
  }
  for (const auto& [name, want] : wanted) {
    const StoredTensor& found = tensors[name];
    if (found.dtype != want.dtype || !fits(found.shape, want.shape)) {
      throw UserError(origin + ": " + name + " is " + in_words(found.dtype, found.shape) + ", expected " +
                      in_words(want.dtype, want.shape));
    }
    if (!is_finite(found)) throw UserError(origin + ": " + name + " holds values that are not finite");
  }
  return tensors;
}

Bytes pack_tensors(const StoredTensors& tensors) {
  Json header = Json::object();
  std::uint64_t at = 0;
  Bytes body;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {at, at + tensor.data.size()}}};
    at += tensor.data.size();
    body.insert(body.end(), tensor.data.begin(), tensor.data.end());
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the tensors are aligned
  Bytes out;
  for (int place = 0; place < 8; ++place) out.push_back(static_cast<std::uint8_t>(text.size() >> (8 * place)));
  out.insert(out.end(), text.begin(), text.end());
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

}  // namespace fbkit
