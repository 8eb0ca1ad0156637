// Runs the main methods of Kafka's tools one after the other in one JVM: a JVM for each would take a second of CPU.
//
// A line of JSON on stdin, {"main", "args", "stdin"}, is answered with a line on stdout, {"exit", "out", "err"}.
// Owns: what a process has and a call has not: exit codes, shutdown hooks, streams of its own. Does not own: what is run.

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.*;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.common.utils.Exit;

public class Tools {
    static final ObjectMapper JSON = new ObjectMapper();
    static final int SECONDS_MAX = 45;

    public static void main(String[] none) throws Exception {
        var requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line; (line = requests.readLine()) != null; ) {
            answers.println(JSON.writeValueAsString(run(JSON.readValue(line, Map.class))));
        }
        System.exit(0); // Tools that ended in the middle left threads behind.
    }

    /** What would run when the JVM ends. */
    static List<Thread> shutdownHooks() throws ReflectiveOperationException {
        var field = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        field.setAccessible(true);
        return new ArrayList<>(((Map<Thread, Thread>) field.get(null)).keySet());
    }

    static Map<String, Object> run(Map<?, ?> request) throws Exception {
        var args = ((List<?>) request.get("args")).toArray(String[]::new);
        var main = Class.forName((String) request.get("main")).getMethod("main", String[].class);
        var out = new ByteArrayOutputStream();
        var err = new ByteArrayOutputStream();
        System.setIn(new ByteArrayInputStream(((String) request.get("stdin")).getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        var exit = new CompletableFuture<Integer>();
        var hooks = new ConcurrentLinkedQueue<Runnable>();
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        Exit.Procedure leave = (code, message) -> {
            exit.complete(code);
            for (;;) { // Nothing after an exit is reached, and no `finally`.
                java.util.concurrent.locks.LockSupport.park();
            }
        };
        Exit.setExitProcedure(leave);
        Exit.setHaltProcedure(leave);
        var tool = new Thread(() -> {
            try {
                main.invoke(null, (Object) args);
                exit.complete(0);
            } catch (InvocationTargetException thrown) {
                System.err.print("Exception in thread \"main\" ");
                thrown.getCause().printStackTrace();
                exit.complete(1);
            } catch (IllegalAccessException wrong) {
                exit.completeExceptionally(wrong);
            }
        });
        tool.setDaemon(true);
        tool.start();
        Integer code = null;
        try {
            code = exit.get(SECONDS_MAX, TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            // Told as no exit code: nothing can be run after it, for it still runs.
        }
        hooks.forEach(Runnable::run);
        for (Thread hook : shutdownHooks()) {
            Runtime.getRuntime().removeShutdownHook(hook);
            hook.run();
        }
        System.out.flush();
        System.err.flush();
        var answer = new HashMap<String, Object>();
        answer.put("exit", code);
        answer.put("out", out.toString(StandardCharsets.UTF_8));
        answer.put("err", err.toString(StandardCharsets.UTF_8));
        return answer;
    }
}
