-- SPDX-License-Identifier: GPL-2.0-only
--- The Internet checksum (RFC 1071). Sums are plain integers that may be added before they are
--- folded, as long as each string but the last has an even length.

local checksum = {}

local unpack = string.unpack
local BLOCK, BLOCK_FORMAT = 64, ">" .. ("I4"):rep(16)

--- The sum of a string's 32-bit words, the last one filled up with zeros.
function checksum.sum(bytes)
  local total, at, size = 0, 1, #bytes
  while size - at >= BLOCK - 1 do
    local a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = unpack(BLOCK_FORMAT, bytes, at)
    total = total + a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p
    at = at + BLOCK
  end
  while size - at >= 3 do
    total = total + unpack(">I4", bytes, at)
    at = at + 4
  end
  if at <= size then total = total + unpack(">I4", bytes:sub(at) .. "\0\0\0") end
  return total
end

--- What to write where the sum (taken with a zero there) is `total`.
function checksum.of(total)
  while total > 0xffff do total = (total >> 16) + (total & 0xffff) end
  return ~total & 0xffff
end

--- The sum of the pseudo header: `src`, `dst` as addr.ip gives them.
function checksum.pseudo(src, dst, protocol, length)
  return src.sum + dst.sum + protocol + length
end

return checksum
