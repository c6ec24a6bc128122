# Read by R at its start (R_PROFILE_USER). IRkernel asks for input even where nobody can give it,
# and loses an interrupt that comes while it begins to wait: so the question is an error.
setHook(packageEvent("IRkernel", "onLoad"), function(...) {
    refuse <- function(...) {
        stop("the cell asked for input, and there is nobody to give it", call. = FALSE)
    }
    namespace <- getNamespace("IRkernel")
    for (name in c("replace_in_package", "add_to_user_searchpath")) local({
        original <- get(name, namespace)
        patched <- function(...) {
            given <- list(...)
            asks <- vapply(given, function(each) {
                is.character(each) && each %in% c("readline", "getPass")
            }, TRUE)
            if (any(asks)) given[vapply(given, is.function, TRUE)] <- list(refuse)
            do.call(original, given)
        }
        if (bindingIsLocked(name, namespace)) unlockBinding(name, namespace)
        assign(name, patched, namespace)
    })
})

# ZeroMQ drops what a publisher has beyond its high-water mark: none is set, so that the kernel
# keeps what its reader has not taken yet. Messages are numbered as `publishing.py` does it.
setHook(packageEvent("IRkernel", "onLoad"), function(...) {
    imports <- parent.env(getNamespace("IRkernel"))
    needed <- c("zmq.socket", "zmq.send.multipart")
    if (!all(vapply(needed, exists, TRUE, envir = imports, inherits = FALSE))) return()
    open_socket <- get("zmq.socket", imports)
    send <- get("zmq.send.multipart", imports)
    publishes <- pbdZMQ::ZMQ.ST()$PUB
    delimiter <- charToRaw("<IDS|MSG>")
    published <- 0
    replacements <- list(
        zmq.socket = function(ctx, type = pbdZMQ::ZMQ.ST()$REP) {
            socket <- open_socket(ctx, type)
            if (identical(type, publishes)) {
                pbdZMQ::zmq.setsockopt(socket, pbdZMQ::ZMQ.SO()$SNDHWM, 0L)
            }
            socket
        },
        zmq.send.multipart = function(socket, parts, serialize = TRUE) {
            if (!serialize && identical(attr(socket, "type"), publishes)) {
                published <<- published + 1
                at <- which(vapply(parts, identical, TRUE, delimiter))[1] - 1
                number <- charToRaw(sprintf("#%.0f", published))
                parts <- append(parts, list(number), after = at)
            }
            send(socket, parts, serialize = serialize)
        }
    )
    for (name in needed) {
        unlockBinding(name, imports)
        assign(name, replacements[[name]], imports)
    }
})

# What notebooks have at hand to load datasets and to hand results back. It lies beside this
# package, or, in a checkout, beside the folder of it.
local({
    here <- dirname(Sys.getenv("R_PROFILE_USER"))
    places <- file.path(here, c("../../../mindzie_sdk", "../../../../sdk/mindzie_sdk"), "mindzie_sdk.R")
    for (place in places[file.exists(places)][1]) if (!is.na(place)) source(place, local = TRUE)
})
