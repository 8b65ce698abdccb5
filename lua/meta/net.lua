---@meta

--- Connections. Every call waits by yielding; what the network refuses is `nil, message, code`, such as
--- `nil, "connection refused", "ECONNREFUSED"` or `nil, "timeout", "ETIMEDOUT"`. Connections and sockets
--- close with `close`, at the end of a `<close>` variable, and with the generation of their script.
---@class tg.net
local net = {}

--- The addresses of a name.
---@param name string
---@param options? { family?: 4|6, timeout?: number }  seconds: 5
---@return string[]? addresses, string? message, string? code
function net.resolve(name, options) end

--- Opens a TCP connection to an address or a name.
---@param host string
---@param port integer
---@param options? { timeout?: number, bind?: string }  timeout: seconds for the connection to stand (5), and
--- for each read and write (none); bind: the local address
---@return tg.Stream? stream, string? message, string? code
function net.connect(host, port, options) end

--- A UDP socket.
---@param options? { bind?: string, port?: integer, timeout?: number }  bind: the local address, `"0.0.0.0"` (for
--- IPv6 `"::"`); timeout: seconds that receive waits unless told otherwise
---@return tg.Udp? socket, string? message, string? code
function net.udp(options) end

---@class tg.Stream
---@field addr string  the peer's
---@field port integer
---@field timeout? number  seconds for each read and write
local Stream = {}

--- What has come in, waiting if nothing has: at most `n` bytes. nil alone at the end.
---@param n? integer
---@return string? data, string? message, string? code
function Stream:read(n) end

--- Exactly `n` bytes; at an early end nil, "end of stream", "EOF".
---@param n integer
---@return string? data, string? message, string? code
function Stream:read_exactly(n) end

--- A line without its end ("\n" or "\r\n"). nil alone at the end.
---@param limit? integer  bytes; 65536. A longer line is an error, `EMSGSIZE`
---@return string? line, string? message, string? code
function Stream:read_line(limit) end

--- Sends, and waits until the kernel has it all.
---@param data string
---@return true? ok, string? message, string? code
function Stream:write(data) end

--- Says that nothing more will be written; reading goes on.
---@return true? ok, string? message, string? code
function Stream:shutdown() end

function Stream:close() end

---@class tg.Udp
---@field timeout? number
local Udp = {}

--- Its own address and port.
---@return string addr, integer port
function Udp:address() end

--- Sends one datagram.
---@param data string
---@param addr string
---@param port integer
---@return true? ok, string? message, string? code
function Udp:send(data, addr, port) end

--- The next datagram, and where it came from.
---@param timeout? number  seconds
---@return string? data, string addr_or_message, integer|string port_or_code
function Udp:receive(timeout) end

function Udp:close() end

return net
