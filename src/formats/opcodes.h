#pragma once

#include <cstdint>

/// The pickle opcodes of Python's Lib/pickletools.py that torch.save and its relatives write.
namespace igpt::formats::op {

constexpr char mark = '(', stop = '.', pop = '0', pop_mark = '1', dup = '2', proto = '\x80', frame = '\x95';
constexpr char none = 'N', newtrue = '\x88', newfalse = '\x89';
constexpr char binint = 'J', binint1 = 'K', binint2 = 'M', binfloat = 'G', long1 = '\x8a', long4 = '\x8b';
constexpr char text_int = 'I', text_long = 'L', text_float = 'F';
constexpr char binstring = 'T', short_binstring = 'U', binbytes = 'B', short_binbytes = 'C', binbytes8 = '\x8e';
constexpr char binunicode = 'X', short_binunicode = '\x8c', binunicode8 = '\x8d', bytearray8 = '\x96';
constexpr char empty_tuple = ')', tuple1 = '\x85', tuple2 = '\x86', tuple3 = '\x87', tuple = 't';
constexpr char empty_list = ']', list = 'l', append = 'a', appends = 'e';
constexpr char empty_set = '\x8f', additems = '\x90', frozenset = '\x91';
constexpr char empty_dict = '}', dict = 'd', setitem = 's', setitems = 'u';
constexpr char memoize = '\x94', binput = 'q', long_binput = 'r', text_put = 'p';
constexpr char binget = 'h', long_binget = 'j', text_get = 'g';
constexpr char global = 'c', stack_global = '\x93', inst = 'i', reduce = 'R', newobj = '\x81', newobj_ex = '\x92';
constexpr char build = 'b', binpersid = 'Q';

}  // namespace igpt::formats::op
