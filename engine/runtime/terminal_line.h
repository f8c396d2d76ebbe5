#pragma once

// One line at the bottom of a terminal that is drawn over itself, and the words that stand in it.

#include <cstdio>
#include <string>
#include <string_view>

namespace hone::engine {

/// A refreshing line on one stream. Not a terminal (a pipe, a file, TERM=dumb): draw() does
/// nothing, print() still prints. One writer.
class TerminalLine {
 public:
  explicit TerminalLine(std::FILE* stream = stderr);
  ~TerminalLine();  // ends an open line, so that the shell's prompt starts on a line of its own
  TerminalLine(const TerminalLine&) = delete;
  TerminalLine& operator=(const TerminalLine&) = delete;

  bool is_terminal() const { return terminal_; }
  /// Escape codes wanted: a terminal, and NO_COLOR is unset or empty (no-color.org).
  bool has_color() const { return color_; }
  /// Columns that fit on one line now.
  int width() const;
  /// Replaces the line; what does not fit is cut. `label_columns` leading columns are bold where
  /// color is wanted.
  void draw(const std::string& text, int label_columns = 0);
  /// Prints whole lines above the refreshing one.
  void print(const std::string& text);
  /// Leaves the line as it stands and goes to the next.
  void end();

 private:
  std::FILE* stream_;
  bool terminal_ = false, color_ = false;
  std::string current_;
  int label_columns_ = 0;
};

/// Text without what a terminal would obey: control characters (C0 but newline, DEL, C1) become
/// spaces.
std::string printable(std::string_view text);
/// Columns of UTF-8 text, one a code point; exact for the labels and numbers drawn here.
int columns_of(std::string_view text);
/// The first `columns` code points.
std::string_view cut_columns(std::string_view text, int columns);
/// "0:21", "12:05", "3:00:00".
std::string clock_time(double seconds);
/// Three significant digits for small numbers, separators for none: "0.824", "12.3", "1234",
/// "2e-5".
std::string short_number(double value);

}  // namespace hone::engine
