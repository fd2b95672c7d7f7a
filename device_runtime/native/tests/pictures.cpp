// For each line PATH CHANNELS HEIGHT WIDTH on stdin: the pixels, on stdout; for a file that cannot be decoded none.
#include <fstream>
#include <iostream>
#include <iterator>

#include "errors.h"
#include "picture.h"
#include "resize.h"

int main() {
  std::string path;
  int channels = 0, height = 0, width = 0;
  while (std::cin >> path >> channels >> height >> width) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<std::uint8_t> data(std::istreambuf_iterator<char>(file), {});
    try {
      const fbkit::Pixels pixels = fbkit::fit_picture(fbkit::decode_picture(data, channels, path), height, width);
      std::cout.write(reinterpret_cast<const char*>(pixels.data.data()),
                      static_cast<std::streamsize>(pixels.data.size()));
    } catch (const fbkit::UserError& error) {
      std::cerr << error.what() << "\n";
    }
  }
}
