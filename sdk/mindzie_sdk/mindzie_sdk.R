# What notebooks in R have at hand to work with process data, as mindzie_sdk is for Python: datasets
# come as files, and results are handed back as files. Needs jsonlite alone. Outside a run of the
# service datasets are CSV files of the current folder, and results go into `results`.
#
#   dataset_id()                      the dataset of the run, or NULL
#   run_parameters()                  the parameters that the run was given
#   load_dataset(dataset_id)          its rows, as a data frame
#   save_enriched_dataset(frame, ...) hand back a data frame with what was added to it
#   save_model(model, ...)            hand back a fitted model, as RDS
#   save_report(report, title)        hand back HTML, Markdown or text, or such a file or a PDF
#   log_metric(name, value)           hand back a number; the last one under a name counts

local({
    .run <- function() {
        path <- Sys.getenv("NBLEDGER_RUN_FILE")
        if (!nzchar(path)) return(list(served = FALSE, results = file.path(getwd(), "results")))
        # A kernel that waits for its run has no such file yet.
        told <- if (file.exists(path)) {
            jsonlite::fromJSON(path, simplifyVector = TRUE, simplifyDataFrame = FALSE)
        } else list()
        told[["served"]] <- TRUE
        told[["results"]] <- file.path(dirname(path), "results")
        told
    }

    .text <- function(value) is.character(value) && length(value) == 1 && !is.na(value) && nzchar(value)

    .bound <- function() {
        run <- .run()
        given <- run[["parameters"]][["dataset_id"]]
        if (is.null(given) || identical(given, "")) return(run[["datasetBinding"]])
        if (!.text(given)) {
            stop("The parameter dataset_id must be the id of a dataset, as one text, and is ",
                 jsonlite::toJSON(given, auto_unbox = TRUE), ".", call. = FALSE)
        }
        given
    }

    dataset_id <- function() .bound()

    run_parameters <- function() {
        parameters <- .run()[["parameters"]]
        if (is.null(parameters)) list() else parameters
    }

    load_dataset <- function(dataset_id = NULL) {
        run <- .run()
        wanted <- if (is.null(dataset_id)) .bound() else dataset_id
        if (!is.null(dataset_id) && !.text(dataset_id)) {
            stop("A dataset is named by one text.", call. = FALSE)
        }
        if (is.null(wanted)) {
            stop(if (run[["served"]]) "This notebook is bound to no dataset, and none was named."
                 else "Outside a run of the service no dataset is bound: name a CSV file.",
                 call. = FALSE)
        }
        held <- run[["datasets"]][[wanted]]
        if (is.null(held)) {
            if (run[["served"]]) stop("The service holds no dataset '", wanted, "'.", call. = FALSE)
            found <- Filter(function(path) grepl("[.]csv$", path) && file.exists(path),
                            c(wanted, paste0(wanted, ".csv")))
            if (length(found) == 0) {
                stop("This is no run of the service, and the folder ", getwd(),
                     " holds no CSV file '", wanted, "'.", call. = FALSE)
            }
            return(.read_csv(found[[1]]))
        }
        if (!is.null(held[["csvPath"]])) {
            return(.typed(.read_texts(held[["csvPath"]]), held[["columns"]]))
        }
        for (package in c("nanoparquet", "arrow")) {
            if (requireNamespace(package, quietly = TRUE)) {
                return(as.data.frame(getExportedValue(package, "read_parquet")(held[["path"]])))
            }
        }
        stop("Dataset '", wanted, "' is there as Parquet alone, and neither nanoparquet nor arrow ",
             "is installed to read it.", call. = FALSE)
    }

    .read_csv <- function(path, classes = NA) {
        utils::read.csv(path, colClasses = classes, check.names = FALSE, na.strings = "",
                        stringsAsFactors = FALSE, encoding = "UTF-8", comment.char = "",
                        blank.lines.skip = FALSE)  # as which a missing cell is in a single column
    }

    # An empty text is in quotes there, a missing one is not, which R does not tell apart.
    .read_texts <- function(path) {
        if (!any(grepl('""', readLines(path, warn = FALSE), fixed = TRUE, useBytes = TRUE))) {
            return(.read_csv(path, "character"))
        }
        text <- rawToChar(readBin(path, "raw", file.size(path)))
        Encoding(text) <- "bytes"
        empty <- "<empty>"
        while (grepl(empty, text, fixed = TRUE, useBytes = TRUE)) empty <- paste0(empty, ">")
        quoted <- gregexpr('"(?:[^"]|"")*+"', text, perl = TRUE, useBytes = TRUE)
        cells <- regmatches(text, quoted)[[1]]
        cells[cells == '""'] <- paste0('"', empty, '"')
        regmatches(text, quoted) <- list(cells)
        marked <- tempfile(fileext = ".csv")
        on.exit(unlink(marked))
        writeBin(charToRaw(text), marked)
        frame <- .read_csv(marked, "character")
        frame[] <- lapply(frame, function(cells) replace(cells, !is.na(cells) & cells == empty, ""))
        names(frame)[names(frame) == empty] <- ""
        frame
    }

    # By the types that the service has found, so that "007" stays a text.
    .typed <- function(frame, columns) {
        inexact <- character()
        for (at in seq_along(columns)) {
            cells <- frame[[at]]
            frame[[at]] <- switch(
                columns[[at]][["type"]],
                integer = {
                    numbers <- as.numeric(cells)
                    largest <- max(abs(numbers), 0, na.rm = TRUE)
                    if (largest <= .Machine$integer.max) as.integer(numbers)
                    else if (largest < .exact) numbers
                    else {
                        inexact <- c(inexact, names(frame)[[at]])
                        cells
                    }
                },
                number = as.numeric(cells),
                duration = as.numeric(sub("^(-?)PT([0-9.]+)S$", "\\1\\2", cells)),
                boolean = as.logical(cells),
                datetime = .times(cells),
                date = as.Date(cells),
                cells
            )
        }
        if (length(inexact)) {
            warning("R has no exact numbers from 2^53 on, so these columns are texts: ",
                    paste(inexact, collapse = ", "), call. = FALSE)
        }
        frame
    }

    .exact <- 2^53  # below it a double is every whole number

    .times <- function(cells) {
        # 2024-01-31T10:00:00.000000+0100, or with Z, or with neither and then in UTC.
        plain <- sub("T", " ", cells, fixed = TRUE)
        offset <- regmatches(plain, regexpr("([+-][0-9]{2}:?[0-9]{2}|Z)$", plain))
        has <- !is.na(plain) & grepl("([+-][0-9]{2}:?[0-9]{2}|Z)$", plain)
        zones <- rep("+0000", length(plain))
        zones[has] <- sub("Z", "+0000", sub(":", "", offset))
        local <- sub("([+-][0-9]{2}:?[0-9]{2}|Z)$", "", plain)
        seconds <- as.numeric(as.POSIXct(local, tz = "UTC", format = "%Y-%m-%d %H:%M:%OS"))
        shift <- as.numeric(substr(zones, 2, 3)) * 3600 + as.numeric(substr(zones, 4, 5)) * 60
        sign <- ifelse(substr(zones, 1, 1) == "-", -1, 1)
        as.POSIXct(seconds - sign * shift, origin = "1970-01-01", tz = "UTC")
    }

    save_enriched_dataset <- function(frame, name = NULL, source = NULL) {
        if (!is.data.frame(frame)) stop("A data frame is needed.", call. = FALSE)
        doubled <- names(frame)[duplicated(names(frame))]
        if (length(doubled)) {
            stop("Two columns are called '", doubled[[1]], "': rename one of them.", call. = FALSE)
        }
        run <- .run()
        asked <- run[["outputFormat"]]
        if (.text(asked) && grepl("parquet", asked, TRUE) && is.null(.said[["csv"]])) {
            message("R hands enriched datasets back as CSV, and not as Parquet.")
            .said[["csv"]] <- TRUE
        }
        from <- if (is.null(source)) .bound() else source
        held <- if (is.null(from)) NULL else run[["datasets"]][[from]]
        if (!is.null(source) && is.null(held) && run[["served"]]) {
            stop("This run has no dataset '", source, "'.", call. = FALSE)
        }
        if (is.null(name)) name <- paste0(if (is.null(held)) "dataset" else held[["name"]], "_enriched")
        name <- .tidy(name)
        columns <- lapply(names(frame), function(each) {
            list(name = each, type = .type_of(frame[[each]]))
        })
        before <- vapply(held[["columns"]], function(column) column[["name"]], "")
        attributes <- list(
            recordCount = nrow(frame),
            columns = columns,
            newColumns = if (is.null(held)) list() else as.list(setdiff(names(frame), before)),
            format = "csv",
            frame = "r_data_frame",
            datasetName = name
        )
        if (!is.null(held)) {
            attributes[["sourceDatasetId"]] <- from
            attributes[["sourceVersion"]] <- held[["version"]]
        }
        .hand_back("enriched_dataset", name, "data", ".csv", "text/csv", attributes, function(path) {
            cells <- .plain(frame)
            reals <- vapply(frame, .is_real, NA)
            cells[reals] <- lapply(frame[reals], .digits)
            quoted <- which(vapply(cells, function(each) is.character(each) || is.factor(each), NA) &
                                !reals)
            utils::write.csv(cells, path, row.names = FALSE, na = "", fileEncoding = "UTF-8",
                             quote = quoted)
        })
    }

    .type_of <- function(cells) {
        if (inherits(cells, "POSIXt")) "datetime"
        else if (inherits(cells, "Date")) "date"
        else if (inherits(cells, "difftime")) "duration"
        else if (is.factor(cells) || is.character(cells)) "string"
        else if (is.logical(cells)) "boolean"
        else if (is.integer(cells)) "integer"
        else if (is.numeric(cells)) "number"
        else "other"
    }

    # Times in ISO 8601 and UTC, as durations are, too, and truth as other languages write it.
    .plain <- function(frame) {
        frame[] <- lapply(frame, function(cells) {
            if (inherits(cells, "POSIXt")) {
                ifelse(is.na(cells), NA, format(cells, "%Y-%m-%dT%H:%M:%OS6Z", tz = "UTC"))
            } else if (inherits(cells, "difftime")) .duration(as.numeric(cells, units = "secs"))
            else if (is.logical(cells)) ifelse(cells, "true", "false")
            else if (is.list(cells)) {
                vapply(cells, function(cell) as.character(jsonlite::toJSON(cell, auto_unbox = TRUE)), "")
            } else cells
        })
        frame
    }

    .duration <- function(seconds) {
        text <- sub("[.]?0+$", "", sprintf("%.9f", abs(seconds)))
        ifelse(is.na(seconds), NA, paste0(ifelse(seconds < 0, "-", ""), "PT", text, "S"))
    }

    .is_real <- function(cells) is.double(cells) && !is.object(cells) && is.null(dim(cells))

    # As many digits as tell it from every other number: write.csv has 15, and 1e+15 for a whole one.
    .digits <- function(cells) {
        whole <- is.finite(cells) & cells == trunc(cells) & abs(cells) < .exact
        short <- sprintf("%.15g", cells)
        lossy <- is.finite(cells) & as.numeric(short) != cells
        text <- ifelse(lossy, sprintf("%.17g", cells), short)
        text[whole] <- sprintf("%.0f", cells[whole] + 0)  # and no -0
        text[is.na(cells)] <- NA
        text
    }

    save_model <- function(model, name = NULL, features = NULL, metrics = NULL, target = NULL) {
        type <- class(model)[[1]]
        if (is.null(features)) features <- .own_features(model)
        metrics <- as.list(metrics)
        if (length(metrics) && (is.null(names(metrics)) || !all(nzchar(names(metrics))))) {
            stop("Each of the metrics needs a name.", call. = FALSE)
        }
        for (each in names(metrics)) metrics[[each]] <- .number(each, metrics[[each]])
        attributes <- list(
            modelType = type,
            features = as.list(as.character(features)),
            target = if (is.null(target)) NA else target,
            metrics = if (length(metrics)) metrics else structure(list(), names = character()),
            accuracy = if (is.null(metrics[["accuracy"]])) NA else metrics[["accuracy"]],
            libraries = list(R = paste(R.version$major, R.version$minor, sep = "."))
        )
        .hand_back("model", .tidy(if (is.null(name)) type else name), "model", ".rds",
                   "application/octet-stream", attributes, function(path) saveRDS(model, path))
    }

    .own_features <- function(model) {
        terms <- tryCatch(stats::terms(model), error = function(e) NULL)
        if (is.null(terms)) character() else attr(terms, "term.labels")
    }

    .forms <- list(html = "html", htm = "html", md = "markdown", markdown = "markdown",
                   pdf = "pdf", txt = "text")
    .suffixes <- list(html = ".html", markdown = ".md", pdf = ".pdf", text = ".txt")
    .media_types <- list(html = "text/html", markdown = "text/markdown",
                         pdf = "application/pdf", text = "text/plain")

    save_report <- function(report, title = NULL) {
        if (!is.character(report) || anyNA(report) || !any(nzchar(trimws(report)))) {
            stop("A report is HTML, text or the path of a file.", call. = FALSE)
        }
        path <- .named_file(report)
        if (!is.null(path)) {
            form <- .forms[[tolower(sub(".*[.]", "", path))]]
            if (is.null(form)) {
                stop(basename(path), " is no report: its name must end in one of ",
                     paste0(".", names(.forms), collapse = ", "), ".", call. = FALSE)
            }
            if (!utils::file_test("-f", path)) stop("There is no file '", path, "'.", call. = FALSE)
            report <- path
            bytes <- readBin(report, "raw", file.size(report))
            otherwise <- sub("[.][^.]*$", "", basename(report))
            text <- if (form == "pdf") "" else rawToChar(bytes)
        } else {
            text <- enc2utf8(paste(report, collapse = "\n"))
            bytes <- charToRaw(text)
            form <- if (grepl("^\\s*<(!doctype\\s+html|[a-z][a-z0-9]*[\\s>/])", text, TRUE, TRUE)) {
                "html"
            } else if (grepl("(?m)^(#{1,6} |```)", text, perl = TRUE)) "markdown" else "text"
            otherwise <- "Report"
        }
        if (is.null(title)) {
            found <- switch(
                form,
                html = .first("(?is)<(title|h1|h2)\\b[^>]*>(.*?)</\\1>", text, 2),
                markdown = .first("(?m)^#{1,6} +(.+?)[ #]*$", text, 1)
            )
            found <- trimws(gsub("<[^>]*>", "", if (is.null(found)) otherwise else found))
            title <- substr(if (nzchar(found)) found else otherwise, 1, 200)
        }
        title <- .tidy(title)
        .hand_back("report", title, "report", .suffixes[[form]], .media_types[[form]],
                   list(format = form, title = title), function(path) writeBin(bytes, path))
    }

    # The path that a report is meant as, be there such a file or not; NULL where it is none.
    .named_file <- function(report) {
        path <- trimws(report)
        if (length(path) != 1 || grepl("[\n<]", path) || nchar(path) > 1000) return(NULL)
        known <- grepl(paste0("[^/][.](", paste(names(.forms), collapse = "|"), ")$"), path, TRUE)
        one_word <- !grepl("[[:space:]]", path)
        rooted <- grepl("^([.]{0,2}/(?!/)|[A-Za-z]:[\\\\/])", path, perl = TRUE)
        there <- (known || one_word) && utils::file_test("-f", path)
        if (known + one_word + rooted > 1 || there) path
    }

    .first <- function(pattern, text, group) {
        found <- regmatches(text, regexec(pattern, text, perl = TRUE))[[1]]
        if (length(found) > group) found[[group + 1]] else NULL
    }

    log_metric <- function(name, value) {
        .hand_back("metric", .tidy(name), NULL, NULL, NULL, list(value = .number(name, value)), NULL)
    }

    .number <- function(name, value) {
        if (!is.numeric(value) || length(value) != 1 || !is.finite(value)) {
            stop("'", name, "' must be one finite number.", call. = FALSE)
        }
        as.numeric(value)
    }

    .metrics <- new.env()
    .said <- new.env()

    # A name without the space around it, in which it is handed back.
    .tidy <- function(name) {
        name <- trimws(name)
        if (!.text(name) || nchar(name) > 200 || grepl("[[:cntrl:]]", name)) {
            stop("A name needs 1 to 200 characters, and no control characters.", call. = FALSE)
        }
        name
    }

    # Files first, and last, by renaming, the one that makes them a result.
    .hand_back <- function(kind, name, role, suffix, media_type, attributes, write) {
        folder <- .run()[["results"]]
        dir.create(folder, showWarnings = FALSE, recursive = TRUE)
        # A metric that is logged again takes the place of what was logged.
        number <- if (kind == "metric") .metrics[[paste(folder, name)]]
        if (is.null(number)) {
            taken <- sub("[.-].*", "", list.files(folder, "^[0-9]{6}[.-]"))
            number <- sprintf("%06d", max(0L, as.integer(taken)) + 1L)
        }
        draft <- file.path(folder, paste0(number, ".part"))
        files <- list()
        data <- NULL
        done <- FALSE
        on.exit(if (!done) unlink(c(draft, data)))
        if (!is.null(write)) {
            path <- paste0(number, "-", role, suffix)
            data <- file.path(folder, path)
            write(data)
            tame <- gsub("^[._]+|[._]+$", "", gsub("[^[:alnum:]_.-]+", "_", name))
            files <- list(list(
                path = path,
                fileName = paste0(if (nzchar(tame)) substr(tame, 1, 100) else "result", suffix),
                mediaType = media_type,
                role = role
            ))
        }
        told <- list(kind = kind, name = name, files = files, attributes = attributes)
        json <- jsonlite::toJSON(told, auto_unbox = TRUE, digits = NA, na = "null", null = "null")
        writeLines(enc2utf8(json), draft, useBytes = TRUE)
        if (!file.rename(draft, file.path(folder, paste0(number, ".json")))) {
            stop("The result could not be handed back.", call. = FALSE)
        }
        done <- TRUE
        if (kind == "metric") .metrics[[paste(folder, name)]] <- number
        invisible(name)
    }

    # On the search path, where clearing the workspace does not reach them.
    .functions <- environment()
    public <- c("dataset_id", "run_parameters", "load_dataset", "save_enriched_dataset",
                "save_model", "save_report", "log_metric")
    if ("mindzie_sdk" %in% search()) detach("mindzie_sdk", character.only = TRUE)
    attach(mget(public, .functions), name = "mindzie_sdk", warn.conflicts = FALSE)
})
