// The journal: one JSON object a line for each change of a profile; docs/profile-format.md#the-journal.
#pragma once

#include "fields.h"

namespace fbkit {

// What counts of a journal. Throws UserError if it is shorter, or a line is no JSON object.
Bytes read_journal(const Path& path, std::uint64_t counted);

// Write behind what counts, over what a crash may have left there. Throws UserError if that cannot be done.
void append_journal(const Path& path, std::uint64_t counted, const Bytes& line);

// At most so many lines, the last ones.
Bytes last_lines(const Bytes& journal, std::size_t most);

// With the time of now.
Bytes to_line(Json entry);

}  // namespace fbkit
