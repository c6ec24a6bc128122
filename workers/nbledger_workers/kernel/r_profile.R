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
