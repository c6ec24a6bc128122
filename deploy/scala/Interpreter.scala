package nbledger.interpreter

import java.awt.image.BufferedImage
import java.io.{
  BufferedInputStream, BufferedOutputStream, ByteArrayOutputStream, DataInputStream,
  DataOutputStream, EOFException, FileInputStream, FileOutputStream, IOException, InputStream,
  OutputStream, PrintStream, PrintWriter, StringWriter
}
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.{Executors, LinkedBlockingQueue, ThreadFactory, TimeUnit}
import java.util.{ArrayList, Base64}
import javax.imageio.ImageIO

import scala.reflect.internal.util.{CodeAction, Position}
import scala.tools.nsc.Settings
import scala.tools.nsc.interpreter.shell.{ReplReporterImpl, ShellConfig}
import scala.tools.nsc.interpreter.{IMain, Results}
import scala.util.control.NonFatal

/** Runs Scala for the Jupyter kernel `nbledger_workers.languages.scala_kernel`, which starts it.
  *
  * The two talk in frames over two pipes: the length of the rest (int), a letter, then any number
  * of fields, each a length (int) and bytes, big endian. To here: X (source) runs a cell, I
  * interrupts it. From here: R (Scala's version, Java's version) once ready; O and E (text of
  * stdout and stderr); D and V (media type, data, ...) for a display and a cell's value; and at
  * the end of each cell either S, or F (name, message, lines of traceback).
  */
object Interpreter {

  /** Source of a cell that waits; its thread takes one after the other. */
  private val cells = new LinkedBlockingQueue[String]

  // A compiler recurses as deeply as the source is nested.
  private val StackBytes = 16L << 20
  private val FlushMillis = 50L
  private val StopMillis = 1000L
  private val MaxResult = 20000

  /** Arguments: the paths to read frames from and to write them to; none warms up and ends. */
  def main(arguments: Array[String]): Unit = {
    System.setProperty("java.awt.headless", "true")
    System.setProperty("scala.repl.maxprintstring", MaxResult.toString)
    val real = arguments.length == 2
    val frames =
      new Frames(if (real) new FileOutputStream(arguments(1)) else OutputStream.nullOutputStream)
    val out = new Stream('O', frames)
    val err = new Stream('E', frames)
    val session = new Session(frames, out, err)
    if (real) {
      // The kernel passes on what Ctrl-C means; the signal itself comes to the whole group.
      sun.misc.Signal.handle(new sun.misc.Signal("INT"), sun.misc.SignalHandler.SIG_IGN)
      System.setOut(new PrintStream(out, true, "UTF-8"))
      System.setErr(new PrintStream(err, true, "UTF-8"))
      Runtime.getRuntime.addShutdownHook(new Thread(() => { out.flush(); err.flush() }))
    }
    System.setIn(NoInput)
    val worker = new Thread(null, () => session.work(cells), "cells", StackBytes)
    worker.setDaemon(true)
    if (!real) {
      cells.add("val squares = (1 to 3).map(x => x * x)\nprintln(squares.sum)\nsquares.toList")
      cells.add("def f(x: Int) = 1 / x\nf(0)")
      cells.add("undefined")
      cells.add("sys.exit(0)")
      worker.start()
      worker.join()
    }
    worker.start()
    val timer = Executors.newSingleThreadScheduledExecutor(new ThreadFactory {
      def newThread(task: Runnable): Thread = {
        val thread = new Thread(task, "timer")
        thread.setDaemon(true)
        thread
      }
    })
    timer.scheduleWithFixedDelay(
      () => { out.flush(); err.flush() }, FlushMillis, FlushMillis, TimeUnit.MILLISECONDS
    )
    val input = new DataInputStream(new BufferedInputStream(new FileInputStream(arguments(0))))
    try
      while (true) {
        val (kind, fields) = Frames.read(input)
        kind match {
          case 'X' => cells.add(fields.head)
          case 'I' =>
            val cell = session.number
            worker.interrupt()
            timer.schedule(
              (() => if (session.busy && session.number == cell) stop(worker)): Runnable,
              StopMillis, TimeUnit.MILLISECONDS
            )
        }
      }
    catch { case _: EOFException => Runtime.getRuntime.halt(0) }
  }

  /** End a cell that is deaf to interrupts, where this Java still can. */
  private def stop(thread: Thread): Unit =
    try classOf[Thread].getMethod("stop").invoke(thread)
    catch { case _: ReflectiveOperationException => () }
}

/** Frames written by any thread. */
private[interpreter] final class Frames(sink: OutputStream) {
  private val out = new DataOutputStream(new BufferedOutputStream(sink, 1 << 16))

  def write(kind: Char, fields: Array[Byte]*): Unit = synchronized {
    out.writeInt(1 + fields.map(_.length + 4).sum)
    out.writeByte(kind.toInt)
    for (field <- fields) {
      out.writeInt(field.length)
      out.write(field)
    }
    out.flush()
  }

  def text(kind: Char, fields: Seq[String]): Unit = write(kind, fields.map(_.getBytes(UTF_8)): _*)
}

private[interpreter] object Frames {

  /** The next frame's letter and fields; EOFException at the end. */
  def read(in: DataInputStream): (Char, Seq[String]) = {
    var left = in.readInt() - 1
    val kind = in.readByte().toChar
    val fields = Seq.newBuilder[String]
    while (left > 0) {
      val field = new Array[Byte](in.readInt())
      in.readFully(field)
      fields += new String(field, UTF_8)
      left -= 4 + field.length
    }
    (kind, fields.result())
  }
}

/** What is printed, gathered into frames of some size: a frame for each line would be slow. */
private[interpreter] final class Stream(kind: Char, frames: Frames) extends OutputStream {
  private val Limit = 1 << 15
  private val buffer = new ByteArrayOutputStream(Limit)

  override def write(byte: Int): Unit = synchronized {
    buffer.write(byte)
    if (buffer.size >= Limit) send()
  }

  override def write(bytes: Array[Byte], from: Int, count: Int): Unit = synchronized {
    buffer.write(bytes, from, count)
    if (buffer.size >= Limit) send()
  }

  // Called by PrintStream for every line: the timer and the cell's end send instead.
  override def flush(): Unit =
    if (!Thread.currentThread.getName.startsWith("cells")) send()

  def send(): Unit = synchronized {
    if (buffer.size > 0) {
      frames.write(kind, buffer.toByteArray)
      buffer.reset()
    }
  }
}

/** Standard input of cells: nobody is there to type. */
private[interpreter] object NoInput extends InputStream {
  override def read(): Int =
    throw new IOException("a notebook that runs by itself gets no standard input")
}

/** Notes what the compiler finds wrong, and what the interpreter says of results. */
private[interpreter] final class Reporter(settings: Settings, text: StringWriter)
    extends ReplReporterImpl(ShellConfig(settings), settings, new PrintWriter(text, true)) {
  val errors = new ArrayList[String]
  val results = new StringBuilder
  val failure = new StringBuilder

  override def printResult(result: Either[String, String]): Unit = result match {
    case Right(value) => results ++= value
    case Left(trace)  => failure ++= trace
  }

  override def doReport(
      position: Position, message: String, severity: Severity, actions: List[CodeAction]
  ): Unit = {
    if (severity == ERROR) errors.add(message)
    super.doReport(position, message, severity, actions)
  }
}

private[interpreter] final class Session(frames: Frames, out: Stream, err: Stream) {
  @volatile var busy = false
  @volatile var number = 0
  private val settings = new Settings(message => System.err.println(message))
  private val said = new StringWriter
  private lazy val reporter = new Reporter(settings, said)
  private lazy val interpreter = new IMain(settings, reporter)
  private var last: Option[Any] = None

  def work(cells: LinkedBlockingQueue[String]): Unit = {
    settings.usejavacp.value = true
    interpreter.initializeCompiler()
    kernel.publish.sink = (data: Seq[(String, String)]) => publish('D', data)
    // The first cell loads most of the compiler: better now than in somebody's run.
    Console.withIn(NoInput) {
      interpreter.interpret("import _root_.nbledger.interpreter.kernel, kernel.publish")
      interpreter.interpret("1 + 1")
    }
    frames.text('R', Seq(scala.util.Properties.versionNumberString, System.getProperty("java.version")))
    while (true) {
      val source = nextOf(cells)
      number += 1
      busy = true
      try
        try end(run(source))
        finally {
          busy = false
          Thread.interrupted()
        }
      catch {
        // It came too late to end a cell, or while its end was told.
        case _: ThreadDeath | _: InterruptedException => ()
      }
    }
  }

  private def nextOf(cells: LinkedBlockingQueue[String]): String =
    try cells.take()
    catch { case _: InterruptedException => nextOf(cells) }

  /** Run one cell; its failure if it failed. */
  private def run(source: String): Option[Failure] = {
    said.getBuffer.setLength(0)
    reporter.reset()
    reporter.errors.clear()
    reporter.results.clear()
    reporter.failure.clear()
    val outcome =
      try Console.withOut(System.out)(
          Console.withErr(System.err)(Console.withIn(NoInput)(interpreter.interpret(source))))
      catch { case thrown: Throwable => return Some(Failure.of(thrown)) }
    val text = said.toString
    outcome match {
      case Results.Success =>
        // Warnings of the compiler.
        if (text.nonEmpty) System.err.print(text)
        System.err.flush()
        None
      case Results.Incomplete =>
        Some(Failure("CompileError", "the source is incomplete", Seq("the source is incomplete")))
      case Results.Error if !reporter.errors.isEmpty =>
        Some(Failure("CompileError", reporter.errors.get(0), text.linesIterator.toSeq))
      case Results.Error =>
        val thrown = interpreter.valueOfTerm("lastException")
        val fresh = thrown.exists(now => !last.exists(_.asInstanceOf[AnyRef] eq now.asInstanceOf[AnyRef]))
        last = thrown
        Some(thrown match {
          case Some(error: Throwable) if fresh => Failure.of(error)
          case _ =>
            // A comment alone is no program, and no error.
            val lines = (text + reporter.failure).linesIterator.toSeq
            if (lines.isEmpty) return None
            if (lines.head.startsWith("java.lang.ThreadDeath")) Failure.of(new InterruptedException)
            else Failure("Error", lines.head, lines)
        })
    }
  }

  private def end(failure: Option[Failure]): Unit = {
    out.send()
    err.send()
    failure match {
      case Some(Failure(name, message, lines)) => frames.text('F', name +: message +: lines)
      case None =>
        val results = reporter.results.toString.stripTrailing
        if (results.nonEmpty) publish('V', ("text/plain" -> results) +: picture.toSeq)
        frames.text('S', Nil)
    }
  }

  /** The last value's picture, when it is one and the cell ended with it. */
  private def picture: Option[(String, String)] = {
    val name = interpreter.mostRecentVar
    if (!reporter.results.toString.contains(s" $name:")) None
    else
      interpreter.valueOfTerm(name).collect { case image: BufferedImage =>
        "image/png" -> Base64.getEncoder.encodeToString(kernel.publish.encoded(image, "png"))
      }
  }

  private def publish(kind: Char, data: Seq[(String, String)]): Unit = {
    out.send()
    err.send()
    frames.text(kind, data.flatMap { case (media, content) => Seq(media, content) })
  }
}

private[interpreter] case class Failure(name: String, message: String, traceback: Seq[String])

private[interpreter] object Failure {
  private val MaxLines = 50

  /** The failure and its stack, without the part below the cell that everybody's has. */
  def of(thrown: Throwable): Failure = {
    val name = thrown match {
      case _: ThreadDeath | _: InterruptedException => "Interrupted"
      case _                                        => thrown.getClass.getName
    }
    val message =
      if (name == "Interrupted") "the cell was interrupted"
      else Option(thrown.getMessage).getOrElse("")
    val text = new StringWriter
    try thrown.printStackTrace(new PrintWriter(text, true))
    catch { case NonFatal(_) => text.write(name) }
    val lines = text.toString.linesIterator.toSeq
    val cut = lines.indexWhere(_.contains(".$print$lzycompute("))
    val own = if (cut > 0) lines.take(cut) else lines
    Failure(name, message, if (own.size > MaxLines) own.take(MaxLines) :+ "\t..." else own)
  }
}

/** What cells use to show things: `publish.html("<b>bold</b>")`. */
object kernel {
  object publish {
    private[interpreter] var sink: Seq[(String, String)] => Unit = _ => ()

    /** One display in several forms: pairs of a media type and its data, binary data in base64. */
    def display(forms: (String, String)*): Unit = sink(forms)

    def text(text: String): Unit = display("text/plain" -> text)
    def html(html: String): Unit = display("text/html" -> html)
    def markdown(markdown: String): Unit = display("text/markdown" -> markdown)
    def latex(latex: String): Unit = display("text/latex" -> latex)
    def svg(svg: String): Unit = display("image/svg+xml" -> svg)
    def png(content: Array[Byte]): Unit = binary("image/png", content)
    def jpeg(content: Array[Byte]): Unit = binary("image/jpeg", content)

    /** A drawing as PNG. */
    def image(image: BufferedImage): Unit = png(encoded(image, "png"))

    private def binary(media: String, content: Array[Byte]): Unit =
      display(media -> Base64.getEncoder.encodeToString(content))

    private[interpreter] def encoded(image: BufferedImage, format: String): Array[Byte] = {
      val out = new ByteArrayOutputStream
      ImageIO.write(image, format, out)
      out.toByteArray
    }
  }
}
