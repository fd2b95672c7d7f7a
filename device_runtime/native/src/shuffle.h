// The generator behind every local choice; docs/profile-format.md has it.
#pragma once

#include <cstdint>
#include <vector>

namespace fbkit {

// The order of count pictures in an epoch, counted from 1.
std::vector<std::size_t> epoch_order(std::size_t count, std::uint64_t seed, std::uint64_t epoch);

// Which fold each picture is in, from 0 on: a class is spread evenly, and folds are of even size.
std::vector<std::size_t> stratified_folds(const std::vector<std::int64_t>& labels, std::size_t folds,
                                          std::uint64_t seed);

}  // namespace fbkit
