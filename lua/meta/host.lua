---@meta

--- Tasks, connections and the log: the part of `tg` that the host itself provides. What waits yields:
--- the rest of the daemon goes on. It works anywhere, in a script's own coroutines too, but not in a
--- function that C calls (a comparison of `table.sort`, a replacement of `gsub`) nor in `__close`.
---@class tg
---@field net tg.net
---@field log tg.log
tg = {}

--- Starts `fn(…)` as a task. An error in it is logged with its traceback and harms nothing else.
---@param fn function
---@return tg.Task
function tg.spawn(fn, ...) end

--- Waits.
---@param seconds number
function tg.sleep(seconds) end

--- Runs `fn` as a task every so many seconds. The schedule does not drift; a run that is due while the
--- one before goes on is left out.
---@param interval number  at least 0.001
---@param fn function
---@param options? { name?: string, jitter?: number }  jitter: up to so many seconds later, anew each time
---@return tg.Timer
function tg.every(interval, fn, options) end

--- Runs `fn(…)` as a task, once.
---@param seconds number
---@return tg.Timer
function tg.after(seconds, fn, ...) end

--- Runs `fn(…)` here, for at most so many seconds: what it returns, or `nil, "timeout"` after its
--- `<close>` variables ran. An error in it is an error here.
---@param seconds number
---@param fn function
---@return any ...
function tg.timeout(seconds, fn, ...) end

---@class tg.Task
---@field name string
---@field state "alive"|"done"|"failed"|"cancelled"
local Task = {}

--- Ends it: its `<close>` variables run. The task that runs ends at its next wait.
function Task:cancel() end

--- Waits for its end: true and what it returned; or false, the error (or `"cancelled"`), a traceback.
---@return boolean ok, any ...
function Task:join() end

---@class tg.Timer
---@field runs integer
---@field missed integer  runs left out because the one before went on
local Timer = {}

--- No further run; one under way is ended, unless it is the caller.
function Timer:cancel() end

---@class tg.log
---@field debug fun(format: any, ...)  with further arguments as string.format
---@field info fun(format: any, ...)
---@field warn fun(format: any, ...)
---@field error fun(format: any, ...)
local log = {}

--- Nothing below this level is logged from now on.
---@param name "debug"|"info"|"warn"|"error"
function log.level(name) end

--- The last messages, oldest first; only those after a serial number.
---@param after? integer
---@return { serial: integer, level: string, text: string }[]
function log.recent(after) end

--- What the network refuses is returned: `nil, "connection refused", "ECONNREFUSED"`. Objects close
--- with `close`, as a `<close>` variable, with their script's generation, and when nobody holds them.
---@class tg.net
local net = {}

--- The addresses of a name.
---@param name string
---@param options? { family?: 4|6, timeout?: number }  timeout: 5 seconds
---@return string[]? addresses, string? message, string? code
function net.resolve(name, options) end

--- A TCP connection to an address or a name.
---@param host string
---@param port integer
---@param options? { timeout?: number, bind?: string }  timeout: seconds until it stands (5), then for
---  each read and write (none); bind: the local address
---@return tg.Stream? stream, string? message, string? code
function net.connect(host, port, options) end

--- A UDP socket.
---@param options? { bind?: string, port?: integer, timeout?: number }  timeout: of receive
---@return tg.Udp? socket, string? message, string? code
function net.udp(options) end

---@class tg.Stream
---@field addr string
---@field port integer
local Stream = {}

--- What has come in, at most `n` bytes, waiting for something. nil at the end of the stream.
---@param n? integer
---@return string? data, string? message, string? code
function Stream:read(n) end

--- Exactly `n` bytes; `nil, "end of stream", "EOF"` if fewer are left.
---@param n integer
---@return string? data, string? message, string? code
function Stream:read_exactly(n) end

--- A line without its end. nil at the end of the stream; EMSGSIZE if it is longer than the limit.
---@param limit? integer  bytes (65536)
---@return string? line, string? message, string? code
function Stream:read_line(limit) end

--- Sends all of it.
---@param data string
---@return true? ok, string? message, string? code
function Stream:write(data) end

--- Nothing more will be written.
---@return true? ok, string? message, string? code
function Stream:shutdown() end

function Stream:close() end

---@class tg.Udp
local Udp = {}

--- The local address and port.
---@return string addr, integer port
function Udp:address() end

---@param data string
---@param addr string
---@param port integer
---@return true? ok, string? message, string? code
function Udp:send(data, addr, port) end

--- The next datagram and its sender.
---@param timeout? number  seconds
---@return string? data, string addr, integer|string port  or nil, message, code
function Udp:receive(timeout) end

function Udp:close() end
